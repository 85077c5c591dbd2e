"""When did it recover? The first instant after the last healing from which service is as before.

As before, for 3 s on end:
- goodput: in every sliding second, and over all 3 s, the share of intended operations that ended ok
  is at least 95 % of steady's;
- speed: p99 is at most 1.5 times steady's, or steady's plus 50 ms where that is more.

Why counts, not percentages: a function with 12 operations a second has a p99 that is its slowest one,
and one failure makes 92 %. So each bound is a number of operations that may miss it, the share of
those due rounded down, and never fewer than one: a single straggler is no outage, and at high rates
the bound is the share itself. p99 is taken over the 3 s, where there are enough operations for it.
Why the 50 ms: 1.5 times a p99 of 20 ms is within the noise of a busy machine.

Time goes in cells of a quarter of a second, counted from the healing; an operation belongs to the cell
of its intended time, whenever it completed. Nothing due is no sign of health: a hold needs at
least half of the operations that steady would have had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from harness.evidence.model import LoadPhases
from harness.experiment.advice import FEWEST_STEADY

CELL_NS = 250_000_000
HOLD_CELLS = 12
HOLD_NS = HOLD_CELLS * CELL_NS  # 3 s
SECOND_CELLS = 4
GOODPUT_SHARE = 0.95
P99_FACTOR = 1.5
P99_SLACK_MS = 50.0


@dataclass(frozen=True)
class Baseline:
    """A function in steady: share ok (0-1), p99 of the latency, operations due per second."""

    ok_share: float
    p99_ms: float
    rate_per_s: float

    @property
    def limit_ms(self) -> float:
        """The highest p99 that counts as recovered."""
        return max(P99_FACTOR * self.p99_ms, self.p99_ms + P99_SLACK_MS)

    def may_miss(self, due: int) -> int:
        """How many of ``due`` operations may not be ok."""
        return max(1, math.floor((1 - GOODPUT_SHARE * self.ok_share) * due + 1e-9))

    @property
    def fewest_in_hold(self) -> float:
        return max(3.0, 0.5 * self.rate_per_s * HOLD_NS / 1e9)


@dataclass(frozen=True)
class Cell:
    """A quarter of a second: operations due, of these not ok, and slower than the limit."""

    due: int = 0
    missed: int = 0
    slow: int = 0


@dataclass(frozen=True)
class Recovery:
    """Epoch ns of recovery by function; None: not within the load. ``overall``: all at the same time.

    ``judged`` False: no function had enough traffic in steady, or nothing was broken.
    """

    healed_ns: int | None
    overall_ns: int | None
    by_function: Mapping[str, int | None]
    judged: bool

    def seconds(self, recovered_ns: int | None) -> float | None:
        """From the healing to ``recovered_ns``."""
        if self.healed_ns is None or recovered_ns is None:
            return None
        return (recovered_ns - self.healed_ns) / 1e9


def holds(cells: Sequence[Cell], baseline: Baseline) -> bool:
    """Whether these HOLD_CELLS cells are as good as steady."""
    due = sum(cell.due for cell in cells)
    if due < baseline.fewest_in_hold:
        return False
    if sum(cell.missed for cell in cells) > baseline.may_miss(due):
        return False
    if sum(cell.slow for cell in cells) > max(1, math.floor(0.01 * due)):
        return False
    for start in range(len(cells) - SECOND_CELLS + 1):
        second = cells[start : start + SECOND_CELLS]
        if sum(cell.missed for cell in second) > baseline.may_miss(sum(cell.due for cell in second)):
            return False
    return True


def first_hold(functions: Mapping[str, tuple[Baseline, Sequence[Cell]]]) -> int | None:
    """The first cell from which every one of the functions holds; None when there is none."""
    length = min((len(cells) for _, cells in functions.values()), default=0)
    for start in range(length - HOLD_CELLS + 1):
        if all(holds(cells[start : start + HOLD_CELLS], base) for base, cells in functions.values()):
            return start
    return None


def recover(connection: duckdb.DuckDBPyConnection, phases: LoadPhases) -> Recovery:
    """Recovery from the recorded operations (tables ``operations`` and ``functions``)."""
    healed_ns, ended_ns = phases.last_healing_ns, phases.load_ended_ns
    bases = baselines(connection, phases)
    if healed_ns is None or ended_ns is None or not bases:
        return Recovery(healed_ns, None, {}, judged=False)
    cells = _cells(connection, bases, healed_ns, ended_ns)
    by_function = {name: (bases[name], cells[name]) for name in bases}

    def instant(found: int | None) -> int | None:
        return None if found is None else healed_ns + found * CELL_NS

    return Recovery(
        healed_ns,
        instant(first_hold(by_function)),
        {name: instant(first_hold({name: pair})) for name, pair in by_function.items()},
        judged=True,
    )


def baselines(connection: duckdb.DuckDBPyConnection, phases: LoadPhases) -> dict[str, Baseline]:
    """Steady by function; functions with too little traffic in steady are left out."""
    start_ns, end_ns = phases.load_started_ns, phases.steady_ended_ns
    rows = connection.execute(
        """
        select f.function, count(*) as due, count(*) filter (outcome = 'ok') as ok,
               quantile_disc((coalesce(completed_ns, $ended) - intended_ns) / 1e6, 0.99)
                   filter (outcome <> 'fail') as p99_ms
        from operations o join functions f on f.kind = o.kind
        where counted_ns >= $start and counted_ns < $end group by all having due >= $fewest and ok > 0
        """,
        {
            "start": start_ns,
            "end": end_ns,
            "ended": phases.load_ended_ns or end_ns,
            "fewest": FEWEST_STEADY,
        },
    ).fetchall()
    seconds = max((end_ns - start_ns) / 1e9, 1e-9)
    return {name: Baseline(ok / due, p99_ms, due / seconds) for name, due, ok, p99_ms in rows}


def _cells(
    connection: duckdb.DuckDBPyConnection, bases: Mapping[str, Baseline], healed_ns: int, ended_ns: int
) -> dict[str, list[Cell]]:
    """The whole cells from the healing to the end of load, by function."""
    count = max(0, (ended_ns - healed_ns) // CELL_NS)
    cells = {name: [Cell()] * count for name in bases}
    limits = ", ".join("(?, ?)" for _ in bases)
    values = [value for name, base in bases.items() for value in (name, base.limit_ms)]
    rows = connection.execute(
        f"""
        with limits(function, limit_ms) as (values {limits})
        select l.function, (intended_ns - ?) // {CELL_NS} as cell, count(*),
               count(*) filter (outcome <> 'ok'),
               count(*) filter (outcome <> 'fail' and 
                   (coalesce(completed_ns, ?) - intended_ns) / 1e6 > limit_ms)
        from operations o join functions f on f.kind = o.kind join limits l on l.function = f.function
        where intended_ns >= ? and intended_ns < ? group by all
        """,
        [*values, healed_ns, ended_ns, healed_ns, healed_ns + count * CELL_NS],
    ).fetchall()
    for name, cell, due, missed, slow in rows:
        cells[name][cell] = Cell(due, missed, slow)
    return cells
