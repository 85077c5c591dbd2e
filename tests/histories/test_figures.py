"""Every business figure of the target against recorded histories: right on the legal one and on each edit.

A new figure needs its SQL file, and one file ``figures/<id>.yaml`` here::

    figure: leakage_minor
    prices: {price_minor_per_mb: 3}        # optional: in place of those in the target's compose.yaml
    good: {value: 0}                       # of the legal history
    cases:
      - {why: a session that was never billed, edits: [...], value: 150}

``value: null`` where it cannot be said; ``value: not applicable`` where it does not apply. Edits are those of
``history``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.check.figures import parse_figure, run_figure
from harness.target.heads import read_figures
from tests.histories.history import BILLING, HERE, edited, evidence, target_spec

FIGURES = read_figures(BILLING)
FILES = {file.stem: file for file in sorted((HERE / "figures").glob("*.yaml"))}
NOT_APPLICABLE = "not applicable"
PRESENT = {*target_spec().operation_kinds, *target_spec().jobs, "maintenance", "lockdown"}


def listed(text: str) -> list[dict[str, Any]]:
    """The cases of a file, the legal history first; each with why, edits, value and prices."""
    said = yaml.safe_load(text)
    assert set(said) <= {"figure", "prices", "good", "cases"}, set(said)
    good = {"why": "the base", "edits": [], **said["good"]}
    cases = [good, *said["cases"]]
    for case in cases:
        assert set(case) <= {"why", "edits", "value", "present"} and "value" in case, case
    return [{"prices": said.get("prices"), **case} for case in cases]


def check(sql: str, case: dict[str, Any], path: Path) -> None:
    """Assert that the figure has that value."""
    connection = evidence(edited(case["edits"]), path)
    try:
        if case["prices"] is not None:
            connection.execute("delete from prices")
            connection.executemany("insert into prices values (?, ?)", list(case["prices"].items()))
        found = run_figure(connection, parse_figure(sql, "figure"), case.get("present", PRESENT))
    finally:
        connection.close()
    if found is None:
        assert case["value"] == NOT_APPLICABLE, "it does not apply"
        return
    if case["value"] is None:
        assert found.value is None, found
        assert "crashed" not in found.reason and "must be" not in found.reason, found.reason
    else:
        assert found.value is not None, found.reason
        assert found.value == pytest.approx(case["value"], abs=1e-3), found


@pytest.mark.parametrize(
    ("figure", "case"),
    [
        pytest.param(name, case, id=f"{name}: {case['why']}")
        for name, file in FILES.items()
        for case in listed(file.read_text(encoding="utf-8"))
    ],
)
def test_figure(figure: str, case: dict[str, Any], tmp_path: Path) -> None:
    check((BILLING / FIGURES[figure].file).read_text(encoding="utf-8"), case, tmp_path)


def test_every_figure_has_a_history_that_moves_it() -> None:
    assert set(FILES) == set(FIGURES)
    for name, file in FILES.items():
        text = file.read_text(encoding="utf-8")
        assert yaml.safe_load(text)["figure"] == name
        good, *cases = listed(text)
        assert any(case["value"] != good["value"] for case in cases), name


TAKEN = """-- id: taken_minor
-- title: Money taken, at a price
-- unit: minor
-- applies: topup
select sum(amount_minor) * (select value from prices where name = 'factor') as value
from operations where kind = 'topup' and outcome = 'ok' and key = 'k1'
"""
TAKEN_CASES = """
figure: taken_minor
prices: {factor: 2}
good: {value: 1000}
cases:
  - {why: more, edits: [{update: operations, where: {id: o1}, set: {amount_minor: 600}}], value: 1200}
  - {why: nothing, edits: [{update: operations, where: {key: k1}, set: {outcome: fail}}], value: null}
  - {why: nobody pays, edits: [], present: [usage], value: not applicable}
"""


def test_these_tests_can_fail(tmp_path: Path) -> None:
    for number, case in enumerate(listed(TAKEN_CASES)):
        check(TAKEN, case, tmp_path / str(number))
        wrong = {**case, "value": 77}
        with pytest.raises(AssertionError):
            check(TAKEN, wrong, tmp_path / f"{number}-wrong")
    with pytest.raises(AssertionError, match="evidence is missing"):
        check(TAKEN.replace("operations", "operatoins"), listed(TAKEN_CASES)[0], tmp_path / "broken")
    crash = TAKEN.replace("sum(amount_minor)", "sum(no_such_column)")
    with pytest.raises(AssertionError, match="crashed"):
        check(crash, {**listed(TAKEN_CASES)[0], "value": None}, tmp_path / "crash")
