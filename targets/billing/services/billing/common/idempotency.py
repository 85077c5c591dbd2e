"""Keys that make a retry harmless (IETF draft: the Idempotency-Key HTTP header field)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp import web

from billing.common.problems import Problem

HEADER = "Idempotency-Key"


def require_key(request: web.Request) -> str:
    """The request's key, or a 400."""
    key = request.headers.get(HEADER, "").strip().strip('"')
    if not 0 < len(key) <= 200 or not key.isprintable():
        raise Problem(
            400, "no idempotency key", f"the header {HEADER} must have 1 to 200 printable characters"
        )
    return key


def fingerprint(operation: str, payload: dict[str, Any]) -> str:
    """Same operation and payload, same fingerprint, however the JSON was written."""
    canonical = json.dumps([operation, payload], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def key_reused(key: str) -> Problem:
    return Problem(422, "idempotency key reused", f"key {key!r} came before with another payload")


def key_in_progress(key: str) -> Problem:
    return Problem(409, "request in progress", f"a request with key {key!r} is being worked on")
