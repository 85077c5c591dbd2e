"""Each concern of the domain is answered by something that is there, and ``docs/seed.md`` says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.concerns import PAGE, Concern, Concerns, complaints, gather, page, read_concerns
from harness.errors import InputError
from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec
from harness.fault.registry import FAULTS

ROOT = Path(__file__).parents[3]
Gathered = tuple[Concerns, TargetSpec, list[Experiment]]


@pytest.fixture(scope="module")
def gathered() -> Gathered:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return gather()


def test_every_concern_is_answered(gathered: Gathered) -> None:
    concerns, spec, experiments = gathered
    assert sorted(concerns.by_number) == list(range(1, 43))
    assert complaints(concerns, spec, experiments, FAULTS) == []


def test_the_page_is_up_to_date(gathered: Gathered) -> None:
    concerns, _, experiments = gathered
    written = (ROOT / PAGE).read_text(encoding="utf-8")
    assert written == page(concerns, experiments), "python -m harness.cli.concerns writes it anew"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"services": ("cashier",)}, "concern 7: services has 'cashier', which is not there"),
        ({"faults": ("earthquake",)}, "concern 7: faults has 'earthquake', which is not there"),
        ({"invariants": ("PAY99",)}, "concern 7: invariants has 'PAY99', which is not there"),
        ({"figures": ("joy",)}, "concern 7: figures has 'joy', which is not there"),
        ({"figures": ()}, "concern 7 (a title) has no figures"),
    ],
)
def test_what_is_missing_is_told(gathered: Gathered, change: dict[str, Any], told: str) -> None:
    _, spec, experiments = gathered
    whole = {
        "services": ("edge",),
        "faults": ("crash",),
        "invariants": ("PAY1",),
        "figures": ("recovery_time_s",),
    }
    concern = Concern(title="a title", **{**whole, **change})
    concerns = Concerns.model_validate({"groups": [{"title": "one", "concerns": {7: concern}}]})
    assert told in complaints(concerns, spec, experiments, FAULTS)


def test_a_concern_that_nobody_plays_out_and_one_that_is_not_there(gathered: Gathered) -> None:
    concerns, spec, experiments = gathered
    one = [experiment for experiment in experiments if experiment.name == "baseline"]
    told = complaints(concerns, spec, one, FAULTS)
    assert "no experiment plays out concern 18 (Security breach: payment access suspended at once)" in told
    other = one[0].model_copy(update={"concerns": (99,)})
    assert "baseline names concern 99, which is not there" in complaints(concerns, spec, [other], FAULTS)


def test_a_file_that_says_something_else(tmp_path: Path) -> None:
    file = tmp_path / "concerns.yaml"
    file.write_text("groups: [{title: x, concerns: {1: {title: y}}}]")
    with pytest.raises(InputError, match="does not say what answers each concern"):
        read_concerns(file)
