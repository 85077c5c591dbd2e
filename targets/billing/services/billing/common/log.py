"""Structured log lines on standard output: one short JSON object per event of interest."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any


class Log:
    """``log("relay.stalled", error=...)``. Not for every request: the metrics count those."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, event: str, **fields: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "service": self._service, "event": event, **fields}
        sys.stdout.write(json.dumps(line, default=_plain, separators=(",", ":")) + "\n")
        sys.stdout.flush()


def _plain(value: object) -> str:
    return describe(value) if isinstance(value, BaseException) else str(value)


def describe(error: BaseException) -> str:
    """Kind and text of an error, on one line; some errors of the network have no text."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300].rstrip(": ")
