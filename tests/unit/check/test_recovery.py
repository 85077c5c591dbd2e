"""Recovery by cells, from recorded operations, and live: the bounds and what they are meant to forgive."""

from __future__ import annotations

import duckdb
import pytest

from harness.check.online import recovered_so_far
from harness.check.recovery import HOLD_CELLS, Baseline, Cell, first_hold, holds, recover
from harness.evidence.model import Timeline

SECOND = 1_000_000_000
BUSY = Baseline(ok_share=1.0, p99_ms=100, rate_per_s=120)  # 30 operations a cell
RARE = Baseline(ok_share=1.0, p99_ms=100, rate_per_s=2)


def hold(*changed: tuple[int, Cell], due: int = 30) -> list[Cell]:
    cells = [Cell(due=due)] * HOLD_CELLS
    for place, cell in changed:
        cells[place] = cell
    return cells


@pytest.mark.parametrize(
    ("cells", "base", "good"),
    [
        (hold(), BUSY, True),
        (hold((3, Cell(30, missed=6))), BUSY, True),  # 6 of a second's 120 is 5 %
        (hold((3, Cell(30, missed=7))), BUSY, False),
        (hold(*[(n, Cell(30, missed=2)) for n in range(12)]), BUSY, False),  # 6.7 % throughout
        (hold((0, Cell(30, slow=3))), BUSY, True),  # 1 % of 360 is 3
        (hold((0, Cell(30, slow=4))), BUSY, False),
        ([Cell()] * HOLD_CELLS, BUSY, False),  # nothing came: no sign of health
        (hold(due=14), BUSY, False),  # hardly half of what was due in steady
        ([Cell(1, missed=n == 5) for n in range(12)], RARE, True),  # one straggler of twelve
        ([Cell(1, missed=n in (1, 9)) for n in range(12)], RARE, False),
    ],
)
def test_hold(cells: list[Cell], base: Baseline, good: bool) -> None:
    assert holds(cells, base) is good


def test_share_is_of_steadys_own() -> None:
    declining = Baseline(ok_share=0.9, p99_ms=100, rate_per_s=120)
    cells = hold(*[(n, Cell(30, missed=3)) for n in range(12)])
    assert holds(cells, declining) and not holds(cells, BUSY)


def test_limit_has_a_floor() -> None:
    assert Baseline(1, 20, 10).limit_ms == 70
    assert Baseline(1, 400, 10).limit_ms == 600


def test_all_functions_must_hold_at_once() -> None:
    down, up = [Cell(30, missed=30)] * 8, [Cell(30)] * 30
    relapse = [Cell(30)] * 14 + [Cell(30, missed=30)] * 4 + [Cell(30)] * 20
    assert first_hold({"a": (BUSY, down + up)}) == 8
    assert first_hold({"b": (BUSY, relapse)}) == 0
    assert first_hold({"a": (BUSY, down + up), "b": (BUSY, relapse)}) == 18
    assert first_hold({"a": (BUSY, down)}) is None


def recorded(outage_end_s: float) -> duckdb.DuckDBPyConnection:
    """100 a second for 30 s; nothing is ok from 10 s to ``outage_end_s``; the last 4 s are slow again."""
    connection = duckdb.connect()
    connection.execute("create table functions as select 'payments' as function, 'topup' as kind")
    connection.execute(
        f"""
        create table operations as
        select (n * 10_000_000)::bigint as intended_ns, intended_ns as counted_ns, 'topup' as kind,
               if(n between 1000 and {outage_end_s} * 100 - 1, 'unknown', 'ok') as outcome,
               intended_ns + if(n >= 2600, 900, 20) * 1_000_000 as completed_ns
        from range(3000) t(n)
        """
    )
    return connection


def timeline(healed_s: float | None) -> Timeline:
    return Timeline(
        deploy_started_ns=0, ready_ns=0, load_started_ns=0, steady_ended_ns=10 * SECOND,
        first_injection_ns=None if healed_s is None else 10 * SECOND,
        last_healing_ns=None if healed_s is None else int(healed_s * SECOND), load_ended_ns=30 * SECOND,
    )  # fmt: skip


@pytest.mark.parametrize(("outage_end_s", "recovered_s"), [(14, 15), (17.0, 17.0), (22.5, 22.5), (24, None)])
def test_recover(outage_end_s: float, recovered_s: float | None) -> None:
    """Healed at 15 s. From 24 s on, no 3 s are left before the slow end."""
    found = recover(recorded(outage_end_s), timeline(15))
    assert found.judged
    at_s = None if found.overall_ns is None else found.overall_ns / SECOND
    # a quarter of a second may begin a cell early: up to 5 % of a second's operations may miss
    assert at_s == pytest.approx(recovered_s, abs=0.26) if recovered_s else at_s is None
    assert found.by_function == {"payments": found.overall_ns}


def test_nothing_broken_is_not_judged() -> None:
    assert not recover(recorded(14), timeline(None)).judged


def so_far(connection: duckdb.DuckDBPyConnection, now_s: float) -> float | None:
    """As seen while load runs: of what has completed by then."""
    columns = "kind, intended_ns, completed_ns, outcome"
    done = f"select {columns} from operations where completed_ns <= {int(now_s * SECOND)}"
    rows = connection.sql(done).to_arrow_table()
    began = timeline(15).model_copy(update={"load_ended_ns": None})
    found = recovered_so_far(rows, {"payments": ("topup",)}, began, int(now_s * SECOND))
    return None if found is None else found / SECOND


@pytest.mark.parametrize(("now_s", "recovered"), [(20.9, False), (21.1, True), (25.0, True)])
def test_live_it_is_the_judges_measure_a_second_late(now_s: float, recovered: bool) -> None:
    """The hold of 3 s begins at 17 s, and what was due in it must have had a second to answer."""
    assert so_far(recorded(17), now_s) == (pytest.approx(17, abs=0.26) if recovered else None)


def test_live_a_recovery_that_does_not_hold_is_taken_back() -> None:
    """At 19 s an operation hangs, and then another: only when they end does that show."""
    connection = recorded(17)
    connection.execute(
        "update operations set completed_ns = 23_500_000_000, outcome = 'unknown' "
        "where intended_ns between 18_900_000_000 and 19_100_000_000"
    )
    assert so_far(connection, 21.5) == pytest.approx(17, abs=0.26)
    assert so_far(connection, 24) == pytest.approx(19.25, abs=0.26)


def test_live_what_the_first_fault_met_under_way_is_not_steady() -> None:
    """Else one slow operation of 20 in steady would make all that is slower than before pass."""
    connection = recorded(15)
    connection.execute(
        "update operations set completed_ns = intended_ns + 900_000_000 where intended_ns > 15e9"
    )
    connection.execute(
        "update operations set completed_ns = 12e9::bigint where intended_ns between 9.8e9 and 10e9"
    )
    assert so_far(connection, 20) is None
