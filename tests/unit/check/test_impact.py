"""Business impact in the verdict: each figure has a note, none that breaks touches the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import promises
from harness.check.figures import Value
from harness.check.impact import FUNCTION_FIGURES
from harness.check.invariants import NOTHING, Found
from harness.check.judge import judge
from harness.check.outage import seconds_below
from harness.check.recovery import Baseline
from harness.check.verdict import Verdict
from harness.evidence.folder import RunFolder
from harness.experiment.target import Figure
from tests.unit.check.staged import of, reads, stage

BASE = Baseline(ok_share=1.0, p99_ms=10, rate_per_s=10)
OK, BAD, HALF, ONE, NONE = (10, 0), (10, 10), (10, 5), (10, 1), (0, 0)


@pytest.mark.parametrize(
    ("seconds", "down"),
    [
        ([OK] * 9, 0),
        ([OK, BAD, BAD, OK], 2),
        ([OK, HALF, OK], 1),
        ([OK, ONE, OK, OK, ONE], 0),  # stragglers
        ([OK, ONE, ONE, ONE, OK], 3),
        ([BAD, NONE, NONE, OK], 3),  # nothing due: as before
        ([OK, NONE, NONE, BAD], 1),
        ([(2, 0), (2, 2), (2, 2), (2, 0)], 2),  # too few to tell alone
        ([(1, 1), (1, 0), (1, 0)], 0),
        ([(1, 0), (1, 1), (1, 1), (1, 0)], 2),
        ([], 0),
    ],
)
def test_seconds_below_what_steady_served(seconds: list[tuple[int, int]], down: int) -> None:
    assert seconds_below(seconds, BASE) == down


def test_a_function_that_was_never_whole_is_forgiven_as_much() -> None:
    assert seconds_below([HALF, HALF], Baseline(ok_share=0.5, p99_ms=10, rate_per_s=10)) == 0


def with_figures(folder: RunFolder, **sql: str) -> Verdict:
    """The verdict where the target has these figures."""
    (folder.path / "figures").mkdir(exist_ok=True)
    figures = {}
    for name, select in sql.items():
        figures[name] = Figure(
            id=name,
            title=f"The {name}",
            unit="minor",
            group="customers",
            model=True,
            file=f"figures/{name}.sql",
        )
        head = f"-- id: {name}\n-- title: The {name}\n-- unit: minor\n"
        (folder.path / figures[name].file).write_text(head + select)
    target = folder.read_target().model_copy(update={"figures": figures, "folder": "."})
    (folder.path / "target.json").write_text(target.model_dump_json())
    return judge(folder)


def test_a_figure_is_noted_and_one_that_crashes_touches_nothing(tmp_path: Path) -> None:
    without = with_figures(stage(tmp_path / "without"))
    verdict = with_figures(
        stage(tmp_path / "with"),
        leakage="select value from prices where name = 'tariff_minor_per_subscriber_minute'",
        broken="select error('odd') as value",
        recovery_time_s="select 5 as value",
    )
    assert (verdict.verdict, verdict.reasons) == (without.verdict, without.reasons)
    assert verdict.version == 1 and set(without.impact) == set(verdict.impact) - {"leakage", "broken"}
    assert verdict.impact["leakage"] == 2 and verdict.impact_notes["leakage"].model
    assert verdict.impact["broken"] is None and "odd" in verdict.impact_notes["broken"].reason
    assert verdict.impact["recovery_time_s"] == 5, "the target's own takes its place"
    assert verdict.impact_notes["recovery_time_s"].title == "The recovery_time_s"
    assert list(verdict.impact) == list(verdict.impact_notes)
    for name, note in verdict.impact_notes.items():
        assert note.title and (verdict.impact[name] is None) == bool(note.reason), name
    assert "impact_notes" in verdict.model_dump_json()


def test_generic_figures_have_titles_units_and_reasons(tmp_path: Path) -> None:
    bad = {**reads(15, 18, outcome="unknown", takes_s=1.0), "every": 0.1}
    verdict = judge(stage(tmp_path, history=of(reads(0, 15), bad, reads(18, 50))))
    assert verdict.impact["balance_outage_s"] == 3
    assert verdict.impact["balance_unknown"] == 30
    note = verdict.impact_notes["balance_outage_s"]
    assert (note.title, note.unit, note.function) == ("Balance: outage", "s", "balance")
    assert verdict.impact["usage_outage_s"] is None
    assert "fewer than 20 operations in steady" in verdict.impact_notes["usage_outage_s"].reason
    told = [name for name in verdict.impact if name.startswith("balance_")]
    assert set(told) == {f"balance_{key}" for key in FUNCTION_FIGURES if not key.endswith("_minor")}


def test_where_nothing_can_be_read_the_figures_are_null_with_the_reason(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    folder.operations.write_bytes(b"no table")
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive"
    folder = stage(tmp_path / "gone")
    folder.operations.unlink()
    verdict = judge(folder)
    assert verdict.impact["affected_subscribers"] is None
    assert "cannot be read" in verdict.impact_notes["affected_subscribers"].reason


def found(impact: int | None, reason: str = "") -> Found:
    return Found("pass" if not reason else "inconclusive", reason=reason, impact=impact)


@pytest.mark.parametrize(
    ("taken", "value"),
    [
        ([found(2), found(3)], Value(5)),
        ([found(0)], Value(0)),
        ([found(2), found(None, NOTHING)], Value(2)),
        ([found(None, NOTHING)], Value(None, NOTHING)),
        ([found(2), found(None, "evidence is missing")], Value(None, "A: evidence is missing")),
        ([found(2, "load came late")], Value(2)),
    ],
)
def test_half_a_count_is_no_count(taken: list[Found], value: Value) -> None:
    tally = promises.Tally()
    for one in taken:
        tally.take("A", one)
    assert tally.value == value
