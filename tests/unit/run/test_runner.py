"""What becomes of a run that breaks, that is stopped, or whose report cannot be written."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.check.verdict import Verdict
from harness.cli.files import load_all
from harness.errors import Aborted, EnvironmentBroken, ExitCode, NotReady
from harness.evidence.folder import RunFolder
from harness.plan import make_plan
from harness.run import runner as module
from harness.run.interrupts import Interrupts
from harness.run.runner import Asked, RunResult, run_experiment
from harness.toxiproxy.find import find_engine

from .stand_ins import Stagehand

ROOT = Path(__file__).resolve().parents[3]


def run(reports: Path, play: Callable[[Any, Interrupts], None], monkeypatch: pytest.MonkeyPatch) -> RunResult:
    monkeypatch.setattr(module._Run, "play", play)
    (loaded,) = load_all([str(ROOT / "experiments" / "db-primary-crash.yaml")])
    plan = make_plan(loaded.experiment, loaded.vocabulary, 1)
    engine = find_engine("builtin")
    asked = Asked(loaded.experiment, loaded.source, loaded.spec, plan, engine, None, reports, "ledgerquake")
    return run_experiment(asked, Stagehand())


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def hangs_until_stopped(_: Any, interrupts: Interrupts) -> None:
    interrupt()
    raise Aborted("stopped before it was ready")


def breaks_after_a_signal(_: Any, interrupts: Interrupts) -> None:
    interrupt()
    raise EnvironmentBroken("the load generator ended before its time")


def breaks(_: Any, interrupts: Interrupts) -> None:
    interrupts.stop("not ready")  # the run itself, not a person
    raise NotReady("not ready")


def has_a_bug(_: Any, interrupts: Interrupts) -> None:
    raise KeyError("figures")


@pytest.mark.parametrize(
    ("play", "code", "says"),
    [
        (hangs_until_stopped, ExitCode.ABORTED, "stopped before"),
        (breaks_after_a_signal, ExitCode.ABORTED, "ended before its time"),
        (breaks, ExitCode.BROKEN, "not ready"),
        (has_a_bug, ExitCode.BROKEN, "the harness broke: KeyError: 'figures'"),
    ],
)
def test_whoever_asked_for_the_end_gets_it_and_all_else_is_broken(
    play: Any, code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(tmp_path, play, monkeypatch)
    assert (result.exit_code, result.verdict) == (code, None)
    assert says in str(result.error)
    assert result.folder is not None
    assert says in (RunFolder(result.folder).read_timeline().aborted or "")
    assert (result.folder / "logs" / "harness.log").exists() == (play is has_a_bug)


def test_a_stop_while_it_is_judged_keeps_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict.model_construct(verdict="pass")

    def judge(_: RunFolder) -> Verdict:
        interrupt()
        return verdict

    monkeypatch.setattr(module, "judge", judge)
    monkeypatch.setattr(RunFolder, "write_verdict", lambda self, verdict: None)
    monkeypatch.setattr(module, "render", lambda folder: None)
    result = run(tmp_path, lambda run, interrupts: None, monkeypatch)
    assert (result.exit_code, result.verdict) == (ExitCode.ABORTED, verdict)


def test_a_verdict_outlives_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict.model_construct(verdict="fail")

    def full(_: Path) -> None:
        raise OSError("no space left on the device")

    monkeypatch.setattr(module, "judge", lambda folder: verdict)
    monkeypatch.setattr(RunFolder, "write_verdict", lambda self, verdict: None)
    monkeypatch.setattr(module, "render", full)
    result = run(tmp_path, lambda run, interrupts: None, monkeypatch)
    assert (result.exit_code, result.verdict) == (ExitCode.BROKEN, verdict)
    assert "no space left" in str(result.error)
