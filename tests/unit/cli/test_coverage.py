"""Every invariant is checked, on some subjects, by some experiment; ``docs/coverage.md`` says by which."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.judge import judge
from harness.check.verdict import Verdict
from harness.cli.concerns import gather
from harness.cli.coverage import PAGE, Run, complaints, gathered, page, passed, read_page
from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec
from tests.unit.check.staged import stage

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def project() -> tuple[TargetSpec, list[Experiment]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        _, spec, experiments = gather()
        return spec, experiments


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return read_page((ROOT / PAGE).read_text(encoding="utf-8"))


def test_every_invariant_is_checked_by_some_experiment(
    project: tuple[TargetSpec, list[Experiment]], runs: dict[str, Run]
) -> None:
    spec, experiments = project
    assert complaints(runs, spec.invariants, experiments) == []


def test_the_page_is_as_the_command_writes_it(
    project: tuple[TargetSpec, list[Experiment]], runs: dict[str, Run]
) -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(runs, project[0].invariants)


def test_what_is_missing_is_told(project: tuple[TargetSpec, list[Experiment]]) -> None:
    spec, experiments = project
    run = Run(seed=1, runtime="process", checked=dict.fromkeys(set(spec.invariants) - {"PAY1"}, 3))
    runs = {experiment.name: run for experiment in experiments if experiment.name != "baseline"}
    odd = {"earthquake": Run(seed=1, runtime="process", checked={"XYZ1": 3, "PAY1": 0})}
    assert complaints(runs | odd, spec.invariants, experiments) == [
        "no experiment checks PAY1",
        "no run of baseline that passed",
        "earthquake is no experiment",
        "XYZ1 is no invariant",
    ]


@pytest.fixture(scope="module")
def verdict(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    return judge(stage(tmp_path_factory.mktemp("staged")))


def stored(of: Verdict, reports: Path, folder: str, **changes: object) -> None:
    (reports / folder).mkdir(parents=True)
    (reports / folder / "verdict.json").write_text(
        of.model_copy(update=changes).model_dump_json(by_alias=True)
    )


def test_the_newest_run_that_passed_counts(
    project: tuple[TargetSpec, list[Experiment]], verdict: Verdict, tmp_path: Path
) -> None:
    stored(verdict, tmp_path / "a", "20260102-000000-x", name="baseline", seed=2)
    stored(verdict, tmp_path / "b", "20260101-000000-x", name="baseline", seed=1)
    for number, change in enumerate(
        ({"verdict": "fail"}, {"mutant": "lossy"}, {"settings": {"edge": {"A": "1"}}})
    ):
        stored(verdict, tmp_path / "b", f"20260103-00000{number}-x", name="baseline", seed=3, **change)
    (tmp_path / "b" / "20260104-000000-x").mkdir()
    (tmp_path / "b" / "20260104-000000-x" / "verdict.json").write_text('{"version": 0}')
    found = gathered(passed([tmp_path / "a", tmp_path / "b"]), project[1])
    assert {name: run.seed for name, run in found.items()} == {"baseline": 2}
    heard = found["baseline"].checked
    assert heard["PAY1"] > 0 and min(heard.values()) > 0 and "AV1" not in heard
    assert read_page(page(found, project[0].invariants)) == found
