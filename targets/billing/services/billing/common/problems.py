"""Answers that say no, as ``application/problem+json``; and which of them promise "no effect".

A client may take a 4xx (but 408, 409, 425, 429), or a 503 with ``Retry-After``, as "refused before any
effect was possible". ``Problem`` carries such a promise only when its raiser can keep it; every error
that nobody foresaw becomes a 500 or 504, which promises nothing.
"""

from __future__ import annotations

import json
from typing import Any

import asyncpg
from aiohttp import web

from billing.common.admission import is_lockdown
from billing.common.database import CommitInDoubt, Unavailable

LOCKDOWN_RETRY_S = 5


class Problem(Exception):
    """An answer other than success. ``retry_after_s`` belongs to 503 alone."""

    def __init__(
        self, status: int, title: str, detail: str = "", *, retry_after_s: int | None = None, **more: Any
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more = more

    def response(self) -> web.Response:
        body = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return web.Response(
            text=json.dumps(body),
            status=self.status,
            headers=headers,
            content_type="application/problem+json",
        )


def refused(title: str, detail: str = "", *, retry_after_s: int = 1) -> Problem:
    """503 with ``Retry-After``: nothing was done and nothing will be."""
    return Problem(503, title, detail, retry_after_s=retry_after_s)


def problem_for(error: Exception) -> Problem:
    """What an error that left a handler is called outside."""
    match error:
        case Problem():
            return error
        case Unavailable():
            return refused("database unavailable", str(error))
        case asyncpg.PostgresError() if is_lockdown(error):
            return refused("lockdown", str(error), retry_after_s=LOCKDOWN_RETRY_S)
        case web.HTTPException():
            return Problem(error.status, error.reason)
        case TimeoutError() | CommitInDoubt():
            return Problem(504, "timed out", "whether it took effect is unknown")
        case _:
            return Problem(500, "internal error", "whether it took effect is unknown")
