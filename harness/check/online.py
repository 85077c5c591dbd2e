"""Recovery as it shows while load runs: the live end of ``recovery``, for the runner.

Live figures come by the second, and operations count in the second in which they complete; the judge
has each operation at its intended time, and recomputes. This answer only decides when load may
end, so where the figures are coarser it errs on the late side: three whole seconds after the healing.
Like the judge it looks at each function, at its goodput and at its speed: a function that answers, but
slowly, has not recovered, however small its share of the load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.check.recovery import HOLD_NS, Baseline
from harness.experiment.advice import FEWEST_STEADY

SECOND_NS = 1_000_000_000
HOLD_SECONDS = HOLD_NS // SECOND_NS
LATE_SECONDS = 2  # the figures of a second come this long after it


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

    def __init__(
        self,
        load_started_ns: int,
        steady_end_ns: int,
        healed_ns: int,
        functions: Mapping[str, Sequence[str]],
    ) -> None:
        """``functions``: their kinds, by name."""
        self.healed_ns = healed_ns
        self._functions = functions
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
            if self._as_before(hold, steady):
                return hold[0].at_ns
        return None

    def _as_before(self, hold: Sequence[Second], steady: Sequence[Second]) -> bool:
        everything = _as_before([s.all for s in hold], [s.all for s in steady])
        return bool(everything) and all(
            _as_before(_of(kinds, hold), _of(kinds, steady)) is not False
            for kinds in self._functions.values()
        )


@dataclass(frozen=True)
class _Sum:
    """Several kinds in one second; the slowest of them stands for all."""

    intended: int
    ok: int
    finished: int
    p99_ms: float | None


def _of(kinds: Sequence[str], seconds: Sequence[Second]) -> list[Figures]:
    """The figures of a function: its kinds together, second by second."""
    out: list[Figures] = []
    for second in seconds:
        figures = [second.by_kind[kind] for kind in kinds if kind in second.by_kind]
        p99s = [each.p99_ms for each in figures if each.p99_ms is not None]
        out.append(
            _Sum(
                sum(each.intended for each in figures),
                sum(each.ok for each in figures),
                sum(each.finished for each in figures),
                max(p99s, default=None),
            )
        )
    return out


def _as_before(hold: Sequence[Figures], steady: Sequence[Figures]) -> bool | None:
    """By the same bounds as the judge's, over whole seconds of completions.

    None where steady had too little traffic to say: a rare function says nothing.
    """
    due = sum(figures.intended for figures in steady)
    ok = sum(figures.ok for figures in steady)
    if due < FEWEST_STEADY or ok == 0:
        return None
    base = Baseline(min(1.0, ok / due), _p99_ms(steady), due / len(steady))
    due = sum(figures.intended for figures in hold)
    missed = due - sum(figures.ok for figures in hold)
    if due < base.fewest_in_hold or missed > base.may_miss(due):
        return False
    if any(figures.finished - figures.ok > base.may_miss(figures.finished) for figures in hold):
        return False
    slow = sum(bool(figures.intended) and _slower(figures, base) for figures in hold)
    return slow <= 1  # a second's p99 is one or two operations: one bad second is noise


def _slower(figures: Figures, base: Baseline) -> bool:
    return figures.p99_ms is None or figures.p99_ms > base.limit_ms


def _p99_ms(steady: Sequence[Figures]) -> float:
    """The p99 of all steady from those of its seconds.

    With fewer than 100 operations a second that is each second's slowest one, and 1 % of the operations
    are that slow in as many seconds as 1 % of the rate says.
    """
    p99s = sorted(figures.p99_ms for figures in steady if figures.p99_ms is not None)
    if not p99s:
        return 0.0
    rate_per_s = sum(figures.finished for figures in steady) / len(steady)
    share = max(0.5, 1 - 0.01 * rate_per_s)
    return p99s[min(len(p99s) - 1, int(share * len(p99s)))]
