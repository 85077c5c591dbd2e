"""Every invariant against recorded histories: silent on the legal one, outspoken on each bad one.

A new invariant needs its SQL file, and one file ``<ID>.yaml`` here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.check.invariants import Found, parse_invariant, run_invariant
from tests.histories.history import BILLING, HERE, edited, evidence, target_spec

INVARIANTS = sorted(file.stem for file in (BILLING / "invariants").glob("*.sql"))
PRESENT = {
    *target_spec().operation_kinds,
    *target_spec().jobs,
    "crash",
    "maintenance",
    "lockdown",
    "partition",
}


def cases() -> list[Any]:
    """The base passes, but where an invariant's file begins with what else it is there."""
    out = []
    for invariant in INVARIANTS:
        told = yaml.safe_load((HERE / f"{invariant}.yaml").read_text(encoding="utf-8"))
        if told[0]["name"] != "base":
            told.insert(0, {"name": "base", "passes": True, "edit": []})
        out += [pytest.param(invariant, case, id=f"{invariant}: {case['name']}") for case in told]
    return out


def check(invariant: str, case: dict[str, Any], path: Path) -> Found:
    file = parse_invariant(
        (BILLING / "invariants" / f"{invariant}.sql").read_text(encoding="utf-8"), invariant
    )
    connection = evidence(edited(case["edit"]), path, case.get("settings"))
    try:
        return run_invariant(connection, file, PRESENT)
    finally:
        connection.close()


@pytest.mark.parametrize(("invariant", "case"), cases())
def test_history(invariant: str, case: dict[str, Any], tmp_path: Path) -> None:
    found = check(invariant, case, tmp_path)
    if "convicts" in case:
        assert found.answer == "fail", found
        assert sorted(str(row["subject"]) for row in found.rows) == sorted(case["convicts"]), found.rows
        assert all(row["problem"] for row in found.rows), found.rows
    else:
        kinds = {"passes": "pass", "not_applicable": "not_applicable"}
        wanted = next((answer for word, answer in kinds.items() if case.get(word)), "inconclusive")
        assert found.answer == wanted, found


def test_every_invariant_has_a_bad_history() -> None:
    for invariant in INVARIANTS:
        listed = yaml.safe_load((HERE / f"{invariant}.yaml").read_text(encoding="utf-8"))
        assert any("convicts" in case for case in listed), invariant
