"""Is each component well? Judged from what its traffic meets and from probes, over the last seconds.

Red: two probes in a row failed, or fewer than half of the requests went well. Yellow: fewer than 95 % did.
A request that has waited longer than SLOW_S counts as bad already, before it ends. Each HTTP method is
judged by itself, and the worst counts: answered questions do not make up for payments that are not taken.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from billing.common import CallFailed, HttpClient

WINDOW_S = 2.5
SLOW_S = 1.0
FEW = 5
PROBE_EVERY_S = 0.5
PROBE_TIMEOUT_S = 0.5

Colour = Literal["green", "yellow", "red"]
_ORDER: tuple[Colour, ...] = ("green", "yellow", "red")


def worst(colours: list[Colour]) -> Colour:
    return max(colours, key=_ORDER.index, default="green")


class Visit:
    """One request to a component while it lasts; ``good`` is set when it went well."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.good = False


class Traffic:
    """Requests of one sort, lately. ``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ended: deque[tuple[float, bool]] = deque()
        self._open: set[Visit] = set()

    @contextmanager
    def visit(self) -> Iterator[Visit]:
        visit = Visit(self._clock())
        self._open.add(visit)
        try:
            yield visit
        finally:
            self._open.discard(visit)
            now = self._clock()
            self._ended.append((now, visit.good and now - visit.began <= SLOW_S))

    def colour(self) -> Colour:
        now = self._clock()
        while self._ended and self._ended[0][0] < now - WINDOW_S:
            self._ended.popleft()
        late = sum(1 for visit in self._open if now - visit.began > SLOW_S)
        total = len(self._ended) + late
        good = sum(well for _, well in self._ended)
        if total < FEW or good >= 0.95 * total:
            return "green"
        return "red" if good < 0.5 * total else "yellow"


class Component:
    """What edge has seen of one service lately. ``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._traffic: dict[str, Traffic] = {}  # by method
        self._probes_failed = 0

    def visit(self, method: str) -> AbstractContextManager[Visit]:
        return self._traffic.setdefault(method, Traffic(self._clock)).visit()

    def probed(self, well: bool) -> None:
        self._probes_failed = 0 if well else self._probes_failed + 1

    def colour(self) -> Colour:
        if self._probes_failed >= 2:
            return "red"
        return worst([traffic.colour() for traffic in self._traffic.values()])


async def watch(component: Component, client: HttpClient) -> None:
    """Probe ``/ready`` for ever; a background task."""
    while True:
        try:
            answer = await client.call("GET", "/ready", attempts=1, timeout_s=PROBE_TIMEOUT_S)
            component.probed(answer.status == 200)
        except CallFailed:
            component.probed(False)
        await asyncio.sleep(PROBE_EVERY_S)


def colours(components: Mapping[str, Component], broker_connected: bool) -> dict[str, Colour]:
    """Without the broker nothing is lost and events are late: yellow."""
    seen: dict[str, Colour] = {name: component.colour() for name, component in components.items()}
    seen["broker"] = "green" if broker_connected else "yellow"
    return seen
