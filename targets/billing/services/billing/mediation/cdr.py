"""A call detail record. Pure: no clock, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.common import read_instant

LARGEST = 2**63 - 1  # of PostgreSQL's bigint
LONGEST_NAME = 200


class Unreadable(ValueError):
    """The record cannot even be stored. The text names the field, its value and what would be right."""


@dataclass(frozen=True)
class Cdr:
    """One use of a service. ``units``: kilobytes, seconds or messages."""

    record_id: str
    subscriber: int
    service: str
    units: int
    started_at: datetime
    visitor_of: str | None = None  # inbound roamer: the partner whose subscriber this is


def read_cdr(body: Mapping[str, Any]) -> Cdr:
    """The record in a request's body."""
    record_id, visitor_of = _name(body, "record_id"), body.get("visitor_of")
    if "#" in record_id:
        raise Unreadable(
            f"'record_id' must not contain '#', as {record_id!r:.100} does: ratings are numbered by it"
        )
    return Cdr(
        record_id=record_id,
        subscriber=_whole(body, "subscriber"),
        service=_name(body, "service"),
        units=_whole(body, "units"),
        started_at=_instant(body, "started_at"),
        visitor_of=None if visitor_of is None else _name(body, "visitor_of"),
    )


def _name(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or not value.isprintable():
        raise Unreadable(f"{field!r} must be 1 to {LONGEST_NAME} printable characters, not {value!r:.100}")
    return value


def _whole(body: Mapping[str, Any], field: str) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise Unreadable(f"{field!r} must be a whole number from 0 to 2^63-1, not {value!r:.100}")
    return value


def _instant(body: Mapping[str, Any], field: str) -> datetime:
    instant = read_instant(body.get(field))
    if instant is None:
        raise Unreadable(f"{field!r} must be an RFC 3339 instant with a zone, not {body.get(field)!r:.100}")
    return instant
