"""A series of runs: what one of them does to the others, and to the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.errors import ExitCode
from harness.run import runner
from harness.run.runner import RunResult

ROOT = Path(__file__).resolve().parents[3]


def series(
    outcomes: list[int | BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any]]:
    """``run --json`` of three experiments, the runs of which end so."""
    ends = iter(outcomes)

    def run_experiment(asked: Any, tell: Any) -> RunResult:
        end = next(ends)
        if isinstance(end, BaseException):
            raise end
        return RunResult(asked.experiment.name, Path("somewhere"), end)

    monkeypatch.setattr(runner, "run_experiment", run_experiment)
    names = ("db-primary-crash", "psp-replies-lost", "baseline")
    files = [str(ROOT / "experiments" / f"{name}.yaml") for name in names]
    words = ["run", "--json", "--runtime", "process", "--toxiproxy", "builtin", *files]
    code = cli.cli.main(args=words, standalone_mode=False)
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("outcomes", "codes"),
    [
        ([ExitCode.PASS, OSError("disk full"), ExitCode.FAIL], [0, 4, 1]),
        ([ExitCode.PASS, ExitCode.ABORTED], [0, 130]),
        ([ExitCode.PASS, KeyboardInterrupt()], [0, 130]),
    ],
)
def test_no_run_takes_the_results_of_the_others_with_it(
    outcomes: list[int | BaseException],
    codes: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, told = series(outcomes, monkeypatch, capsys)
    assert [run["exit_code"] for run in told["runs"]] == codes
    assert code == told["exit_code"] == max(codes)


def test_what_was_reached_is_told_whatever_ends_the_series(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("harness.cli.running._tell_result", gone)
    with pytest.raises(BrokenPipeError):
        series([ExitCode.FAIL], monkeypatch, capsys)
    told = json.loads(capsys.readouterr().out)
    assert (told["exit_code"], [run["exit_code"] for run in told["runs"]]) == (4, [1])
