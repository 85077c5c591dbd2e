"""Tariffs and offers, from a cache that outlasts their owner and our own restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from billing.common import CallFailed, HttpClient, Problem, refused
from billing.selfcare.files import read_json, write_json

EVERY_S = 5.0
FIRST_S = 0.5


class Catalogue:
    """``run`` keeps it fresh. ``shown`` answers from memory, however old that is, and says so."""

    def __init__(self, mediation: HttpClient, file: Path) -> None:
        self._mediation = mediation
        self._file = file
        self._known: dict[str, Any] | None = read_json(file, None)

    async def run(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(FIRST_S if self._known is None else EVERY_S)

    async def refresh(self) -> None:
        try:
            answer = await self._mediation.call("GET", "/tariffs", attempts=1)
        except CallFailed:
            return
        if answer.status == 200 and isinstance(answer.body, dict):
            heard = {**answer.body, "as_of": datetime.now(UTC).isoformat(timespec="milliseconds")}
            changed = self._known is None or {**self._known, "as_of": None} != {**heard, "as_of": None}
            self._known = heard
            if changed:
                write_json(self._file, heard)

    def shown(self) -> dict[str, Any]:
        """Raises Problem 503 before anything was ever heard."""
        if self._known is None:
            raise refused("no catalogue yet", "the price list has not been heard since this was installed")
        return self._known

    def price_line(self) -> str:
        """The tariff in one line, as it fits a text message."""
        tariffs = self.shown().get("tariffs")
        if not isinstance(tariffs, list):
            raise Problem(502, "no tariffs", "the price list that was heard has none")
        parts = [f"{t['service']} {t['price_micro_per_unit'] / 1e6:g}/{t['unit']}" for t in tariffs]
        return "Tariff: " + ", ".join(parts)
