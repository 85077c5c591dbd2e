"""What a request says, or a 400 that names what is wrong with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from billing.common.problems import Problem

PERIOD = re.compile(r"[A-Za-z0-9._-]{1,32}")  # the label of a billing run or a settlement


async def json_object(request: web.Request) -> dict[str, Any]:
    """The request's JSON object, or a 400."""
    try:
        body = await request.json()
    except ValueError as error:
        raise Problem(400, "malformed body", str(error)) from error
    if not isinstance(body, dict):
        raise Problem(400, "malformed body", "a JSON object is expected")
    return body


def whole_number(body: dict[str, Any], name: str, *, at_least: int) -> int:
    """An integer field of a body, at most 10^15 (so that sums fit 64 bits), or a 400 that names it."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= 10**15:
        raise Problem(400, "malformed body", f"{name} must be a whole number from {at_least}, not {value!r}")
    return value


def text_field(body: dict[str, Any], name: str, *, longest: int = 200) -> str:
    """A non-empty text field without control characters, or a 400 that names it."""
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise Problem(400, "malformed body", f"{name} must be 1 to {longest} printable characters")
    return value


def read_instant(value: object) -> datetime | None:
    """An RFC 3339 text with a zone, in UTC; None for anything else."""
    try:
        instant = datetime.fromisoformat(value if isinstance(value, str) else "")
        return None if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):  # overflow: in UTC it is before the year 1, or after 9999
        return None


def instant_field(body: dict[str, Any], name: str) -> datetime:
    """An instant of a body, in UTC, or a 400 that names it."""
    instant = read_instant(body.get(name))
    if instant is None:
        raise Problem(
            400, "malformed body", f"{name} must be an RFC 3339 instant, not {body.get(name)!r:.100}"
        )
    return instant


def query_number(request: web.Request, name: str, *, at_least: int = 0, at_most: int = 10**18 - 1) -> int:
    """A whole number of the query, or a 400 that names it."""
    text = request.query.get(name, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
    if not at_least <= number <= at_most:
        allowed = f"a whole number from {at_least} to {at_most}"
        raise Problem(400, "malformed query", f"{name} must be {allowed}, not {text!r:.100}")
    return number


def path_period(request: web.Request) -> str:
    """The period that the path names, or a 400."""
    period = request.match_info["period"]
    if not PERIOD.fullmatch(period):
        raise Problem(400, "malformed period", f"must match {PERIOD.pattern}, not {period!r:.100}")
    return period
