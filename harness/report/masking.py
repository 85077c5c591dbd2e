"""Secrets never reach a report: what looks like one is replaced before anything is rendered."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
_NAME = r"(?:\w*(?:passw(?:or)?d|secret|token|api_?key|credential)\w*)"
_SECRET_NAME = re.compile(rf"{_NAME}\Z", re.IGNORECASE)
_ASSIGNED = re.compile(rf"({_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)", re.IGNORECASE)
_IN_URL = re.compile(r"(\w+://[^\s:/@]+):[^\s/@]+@")
_AUTHORIZATION = re.compile(r"(authorization[\"']?\s*[=:]\s*[\"']?\w+)\s+[^\s\"']+", re.IGNORECASE)


def masked(value: Any) -> Any:
    """The same JSON-like value with secrets masked in texts and under names that speak of secrets."""
    if isinstance(value, str):
        return _masked_text(value)
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(item, str) and item and _SECRET_NAME.match(str(key)) else masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def _masked_text(text: str) -> str:
    text = _IN_URL.sub(rf"\1:{MASK}@", text)
    text = _AUTHORIZATION.sub(rf"\1 {MASK}", text)
    return _ASSIGNED.sub(rf"\1{MASK}", text)
