"""The public status page: what edge says of the system, and red when edge says nothing.

Edge sees the traffic, so its word counts while it can be heard. When it is silent for SILENT_ASKS questions
in a row, customers cannot get in either: then the page is red, with what was known last, and its age.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from billing.common import CallFailed, HttpClient

EVERY_S = 0.5
TIMEOUT_S = 0.8
SILENT_ASKS = 2


class Mirror:
    """``run`` asks for ever. ``page`` answers at once, from memory."""

    def __init__(self, edge: HttpClient, clock: Callable[[], float] = time.time) -> None:
        self._edge = edge
        self._clock = clock
        self._last: dict[str, Any] = {
            "overall": "red",
            "mode": "unknown",
            "epoch": 0,
            "components": {},
            "announcements": [],
        }
        self._heard_s = clock()
        self._ever_heard = False
        self._silences = SILENT_ASKS  # who has heard nothing yet knows nothing good

    async def run(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(EVERY_S)

    async def ask(self) -> None:
        try:
            answer = await self._edge.call("GET", "/status", attempts=1, timeout_s=TIMEOUT_S)
        except CallFailed:
            self._silences += 1
            return
        if answer.status == 200 and isinstance(answer.body, dict) and "overall" in answer.body:
            self._last, self._heard_s, self._silences = answer.body, self._clock(), 0
            self._ever_heard = True
        else:
            self._silences += 1

    def broken(self) -> bool:
        """Whether the page is red for what has happened, and not for want of a first word."""
        return self._ever_heard and self.page()["overall"] == "red"

    def page(self) -> dict[str, Any]:
        """The status page."""
        as_of = datetime.fromtimestamp(self._heard_s, UTC).isoformat(timespec="milliseconds")
        if self._silences < SILENT_ASKS:
            return {**self._last, "source": "edge", "as_of": as_of}
        components = {**self._last["components"], "edge": "red"}
        return {
            **self._last,
            "overall": "red",
            "components": components,
            "source": "selfcare",
            "as_of": as_of,
        }
