"""The figures of each second while load runs, and the generator's own lag. Pure; no files, no threads.

A finished operation counts in the second in which it completed, an intended one in that of its
intended time. A second is frozen once it is given out; a completion that comes to the meter after
that counts in the next one, so that nothing is lost.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.evidence.model import Outcome

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class LiveSecond:
    """Second number ``second`` of load (from 0), which began at ``at_ns`` (epoch).

    ``intended`` operations were due in it, the others ended in it, so or so. Latencies count from the
    intended time; None: no answers. ``in_flight``, ``waiting`` (due, but every user is busy) and ``users``
    are as of its end; ``lag_p99_ms`` is that of the operations started in it.
    """

    second: int
    at_ns: int
    intended: int
    ok: int
    fail: int
    unknown: int
    p50_ms: float | None
    p99_ms: float | None
    in_flight: int
    waiting: int
    users: int
    lag_p99_ms: float | None

    @property
    def finished(self) -> int:
        return self.ok + self.fail + self.unknown

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LiveSecond:
        return cls(**data)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value with at least ``share`` of all values at or below it."""
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


class LagHistogram:
    """All lags of a run in little room: 0.1 ms steps up to 1 s, 10 ms steps beyond."""

    FINE_NS, FINE_COUNT, COARSE_NS = 100_000, 10_000, 10_000_000

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.total = 0

    def add(self, lag_ns: int) -> None:
        self.total += 1
        fine = max(0, lag_ns) // self.FINE_NS
        if fine >= self.FINE_COUNT:
            fine = self.FINE_COUNT + (lag_ns - self.FINE_COUNT * self.FINE_NS) // self.COARSE_NS
        self._counts[fine] += 1

    def p99_ms(self) -> float:
        """The upper edge of the step in which the 99th percentile lies; 0 when nothing was sent."""
        missing = -(-99 * self.total // 100)
        for step in sorted(self._counts):
            missing -= self._counts[step]
            if missing <= 0:
                return self._edge_ms(step)
        return 0.0

    def _edge_ms(self, step: int) -> float:
        if step < self.FINE_COUNT:
            return (step + 1) * self.FINE_NS / 1e6
        return (self.FINE_COUNT * self.FINE_NS + (step + 1 - self.FINE_COUNT) * self.COARSE_NS) / 1e6


@dataclass(frozen=True, slots=True)
class Gauges:
    """The generator's state at an instant."""

    in_flight: int
    waiting: int
    users: int


@dataclass
class _Bucket:
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)


class Meter:
    """Gathers finished operations into seconds; ``t0_ns`` is the start of load."""

    def __init__(self, t0_ns: int) -> None:
        self._t0_ns = t0_ns
        self._next = 0  # the first second that is not frozen yet
        self._buckets: dict[int, _Bucket] = defaultdict(_Bucket)
        self._lags_ms: list[float] = []
        self.lag = LagHistogram()

    def finished(self, outcome: Outcome, intended_ns: int, completed_ns: int) -> None:
        second = max(self._next, (completed_ns - self._t0_ns) // SECOND_NS)
        bucket = self._buckets[second]
        bucket.outcomes[outcome] += 1
        bucket.latencies_ms.append((completed_ns - intended_ns) / 1e6)

    def started(self, lags_ns: Iterable[int]) -> None:
        for lag_ns in lags_ns:
            self.lag.add(lag_ns)
            self._lags_ms.append(lag_ns / 1e6)

    def freeze(self, now_ns: int, intended: Callable[[int], int], gauges: Gauges) -> list[LiveSecond]:
        """The seconds that are over by ``now_ns`` and were not given out before.

        ``intended`` gives the number of arrivals of a second that is over.
        """
        out = []
        while self._t0_ns + (self._next + 1) * SECOND_NS <= now_ns:
            out.append(self._one(self._next, intended(self._next), gauges))
            self._next += 1
        return out

    def _one(self, second: int, intended: int, gauges: Gauges) -> LiveSecond:
        bucket = self._buckets.pop(second, None) or _Bucket()
        latencies_ms = sorted(bucket.latencies_ms)
        lags, self._lags_ms = sorted(self._lags_ms), []
        return LiveSecond(
            second=second,
            at_ns=self._t0_ns + second * SECOND_NS,
            intended=intended,
            ok=bucket.outcomes["ok"],
            fail=bucket.outcomes["fail"],
            unknown=bucket.outcomes["unknown"],
            p50_ms=percentile(latencies_ms, 0.5),
            p99_ms=percentile(latencies_ms, 0.99),
            in_flight=gauges.in_flight,
            waiting=gauges.waiting,
            users=gauges.users,
            lag_p99_ms=percentile(lags, 0.99),
        )
