"""Recovery as it shows while load runs: the live end of ``recovery``, for the runner.

Live figures come by the second, and operations count in the second in which they complete; the judge
has each operation at its intended time, and recomputes. This answer only decides when load may
end, so where the figures are coarser it errs on the late side: three whole seconds after the healing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.check.recovery import FEWEST_STEADY, Baseline

HOLD_SECONDS = 3
SECOND_NS = 1_000_000_000


class Figures(Protocol):
    """One kind, or all together, in one second. ``p99_ms`` None: nothing completed."""

    @property
    def intended(self) -> int: ...
    @property
    def ok(self) -> int: ...
    @property
    def finished(self) -> int: ...
    @property
    def p99_ms(self) -> float | None: ...


class Second(Protocol):
    """A second of load that began at ``at_ns``."""

    @property
    def at_ns(self) -> int: ...
    @property
    def all(self) -> Figures: ...
    @property
    def by_kind(self) -> Mapping[str, Figures]: ...


class RecoveryWatch:
    """Looks at the live seconds for the first one from which service was as in steady."""

    def __init__(self, load_started_ns: int, steady_end_ns: int, healed_ns: int) -> None:
        self.healed_ns = healed_ns
        self._load_started_ns = load_started_ns
        self._steady_end_ns = steady_end_ns

    def recovered_at(self, live: Sequence[Second]) -> int | None:
        """Epoch ns of recovery, or None while it has not shown. ``live``: all seconds so far, in order."""
        steady = [
            second
            for second in live
            if second.at_ns >= self._load_started_ns and second.at_ns + SECOND_NS <= self._steady_end_ns
        ]
        after = [second for second in live if second.at_ns >= self.healed_ns]
        if not steady:
            return None
        for start in range(len(after) - HOLD_SECONDS + 1):
            hold = after[start : start + HOLD_SECONDS]
            if _as_before([s.all for s in hold], [s.all for s in steady], with_p99=True) and all(
                _as_before(_of(kind, hold), _of(kind, steady), with_p99=False) for kind in _kinds(steady)
            ):
                return hold[0].at_ns
        return None


def _kinds(seconds: Sequence[Second]) -> set[str]:
    return {kind for second in seconds for kind in second.by_kind}


def _of(kind: str, seconds: Sequence[Second]) -> list[Figures]:
    return [second.by_kind[kind] for second in seconds if kind in second.by_kind]


def _as_before(hold: Sequence[Figures], steady: Sequence[Figures], *, with_p99: bool) -> bool:
    """By the same bounds as the judge's, over whole seconds of completions."""
    due = sum(figures.intended for figures in steady)
    ok = sum(figures.ok for figures in steady)
    if due < FEWEST_STEADY or ok == 0:
        return not with_p99  # a rare kind says nothing; without any traffic nothing can be said
    p99s = sorted(figures.p99_ms for figures in steady if figures.p99_ms is not None)
    base = Baseline(min(1.0, ok / due), p99s[len(p99s) // 2] if p99s else 0.0, due / len(steady))
    due = sum(figures.intended for figures in hold)
    missed = due - sum(figures.ok for figures in hold)
    if due < base.fewest_in_hold or missed > base.may_miss(due):
        return False
    if any(figures.finished - figures.ok > base.may_miss(figures.finished) for figures in hold):
        return False
    slow = sum(figures.p99_ms is None or figures.p99_ms > base.limit_ms for figures in hold)
    return not with_p99 or slow <= 1  # a second's p99 is one or two operations: one bad second is noise
