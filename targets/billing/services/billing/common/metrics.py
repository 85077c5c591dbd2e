"""Counters behind ``GET /metrics``: a flat JSON object of numbers, since the start of the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Metrics:
    """``add`` counts, ``gauge`` registers something to be read when asked."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._gauges: dict[str, Callable[[], float]] = {}

    def add(self, name: str, by: int = 1) -> None:
        self._counts[name] += by

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        self._gauges[name] = read

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def snapshot(self) -> dict[str, float]:
        return {**self._counts, **{name: read() for name, read in self._gauges.items()}}
