"""What becomes of a run that breaks, that is stopped, or whose report cannot be written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.check.verdict import Verdict
from harness.cli.files import load_all
from harness.errors import Aborted, EnvironmentBroken, ExitCode, NotReady
from harness.evidence.folder import RunFolder
from harness.evidence.model import Death
from harness.plan import make_plan
from harness.run import runner as module
from harness.run.collecting import Collected
from harness.run.ground import ProcessGround
from harness.run.interrupts import Interrupts
from harness.run.runner import Asked, RunResult, run_experiment
from harness.toxiproxy.find import find_engine

from .stand_ins import Driver, Stagehand

ROOT = Path(__file__).resolve().parents[3]


class Scene:
    """A stage, its load and its samples, without a process. ``fallen_at``: when a witness ends uninvited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fallen_at = ""
        self.now = "load"
        self.load_breaks = False
        self.asked: list[str] = []
        self.links = self.runtime = self.journal = None
        self.versions: Any = dict
        self.load: Driver | None = None
        for name in ("Stage", "Sampler", "LoadDriver"):
            monkeypatch.setattr(module, name, lambda *_: self)
        monkeypatch.setattr(module._Run, "_driver", lambda run, stage: self)
        monkeypatch.setattr(module._Run, "_stop_load", lambda run, driver: self.asked.append("stop load"))
        monkeypatch.setattr(module, "wait_settled", self.wait_settled)
        monkeypatch.setattr(module, "collect", self.collect)
        monkeypatch.setattr(module, "render", lambda folder: None)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def come_up(self, stopping: Callable[[], bool]) -> None:
        pass

    def deaths(self) -> tuple[Death, ...]:
        return (Death(service="psp-a", at_ns=1, exit_code=-9),) if self.fallen_at else ()

    def fallen(self) -> str | None:
        return "psp-a ended" if self.now == self.fallen_at else None

    def mend(self) -> None:
        self.asked.append("mend")

    def arm(self) -> None:
        pass

    def start(self) -> int:
        if self.load is None:  # the sampler's turn comes first
            self.load = Driver(for_s=60)
        return time.time_ns()

    def stop(self) -> None:
        pass

    def check(self) -> None:
        if self.load_breaks:
            raise EnvironmentBroken("sampling broke")

    def alive(self) -> bool:
        return self.load is not None and self.load.alive()

    def live(self) -> list[Any]:
        return []

    @property
    def operations_file(self) -> Path:
        return Path("nothing-recorded")

    def wait_settled(self, *args: Any) -> tuple[int | None, dict[str, int]]:
        self.asked.append("settle")
        self.now = "settling" if self.fallen_at == "settling" else self.now
        args[-1]()
        return None, {"outboxes": 3}

    def collect(self, *_: Any) -> Collected:
        self.asked.append("collect")
        return Collected((), ("the log of psp-a cannot be collected",))


SOON = ("steady=1s", "recovered=1s", "recover_within=1s")


def play(scene: Scene, reports: Path) -> tuple[RunResult, RunFolder, Stagehand]:
    (loaded,) = load_all([str(ROOT / "experiments" / "baseline.yaml")], SOON)
    plan = make_plan(loaded.experiment, loaded.vocabulary, 1)
    ground = ProcessGround(find_engine("builtin"))
    asked = Asked(loaded.experiment, loaded.source, loaded.spec, plan, ground, None, reports, "ledgerquake")
    tell = Stagehand()
    result = run_experiment(asked, tell)
    assert result.folder is not None
    return result, RunFolder(result.folder), tell


@pytest.mark.parametrize("when", ["load", "settling"])
def test_a_run_whose_witness_ended_goes_its_way_and_is_inconclusive(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(monkeypatch)
    scene.fallen_at = when
    result, folder, tell = play(scene, tmp_path)
    assert (result.exit_code, result.error) == (ExitCode.INCONCLUSIVE, None)
    assert [step for step in scene.asked if step != "stop load"] == ["settle", "mend", "collect"]
    assert "psp-a ended: the run ends early and is judged by what can still be had" in tell.told
    timeline = folder.read_timeline()
    assert timeline.aborted == "psp-a ended" and [death.service for death in timeline.deaths] == ["psp-a"]
    assert timeline.not_collected == ("the log of psp-a cannot be collected",)
    assert timeline.collected_ns is None and timeline.settle_pending == {"outboxes": 3}
    assert folder.read_faults() == () == folder.read_jobs()
    assert result.verdict is not None and any("psp-a ended" in reason for reason in result.verdict.reasons)


def test_a_final_state_that_cannot_be_had_is_no_abort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, folder, tell = play(Scene(monkeypatch), tmp_path)
    assert result.verdict is not None and result.verdict.verdict != "pass"
    assert folder.read_timeline().aborted is None, "what clients measured may still convict the target"
    assert folder.read_timeline().not_collected
    assert "the log of psp-a cannot be collected" in tell.told


def test_what_was_seen_before_the_harness_broke_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(monkeypatch)
    scene.load_breaks = True
    before_ns = time.time_ns()
    result, folder, _ = play(scene, tmp_path)
    assert (result.exit_code, result.verdict) == (ExitCode.BROKEN, None)
    assert folder.read_faults() == () == folder.read_jobs()
    timeline = folder.read_timeline()
    assert timeline.aborted == "sampling broke"
    assert before_ns < timeline.load_started_ns < (timeline.load_ended_ns or 0)
    assert timeline.steady_ended_ns <= (timeline.load_ended_ns or 0)


def run(reports: Path, play: Callable[[Any, Interrupts], None], monkeypatch: pytest.MonkeyPatch) -> RunResult:
    monkeypatch.setattr(module._Run, "play", play)
    (loaded,) = load_all([str(ROOT / "experiments" / "db-primary-crash.yaml")])
    plan = make_plan(loaded.experiment, loaded.vocabulary, 1)
    ground = ProcessGround(find_engine("builtin"))
    asked = Asked(loaded.experiment, loaded.source, loaded.spec, plan, ground, None, reports, "ledgerquake")
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


def meets_a_full_disk(run: Any, interrupts: Interrupts) -> None:
    raise OSError(errno.ENOSPC, "full", "/there/file")


def has_a_bug_and_no_folder_for_it(run: Any, interrupts: Interrupts) -> None:
    shutil.rmtree(run._folder.logs)
    raise KeyError("figures")


@pytest.mark.parametrize(
    ("play", "says"),
    [
        (meets_a_full_disk, "the disk is full at /there/file"),
        (has_a_bug_and_no_folder_for_it, "the harness broke: KeyError: 'figures'"),
    ],
)
def test_the_cause_is_told_although_nothing_can_be_written_any_more(
    play: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(RunFolder, "write_timeline", full)
    result = run(tmp_path, play, monkeypatch)
    assert (result.exit_code, result.verdict) == (ExitCode.BROKEN, None)
    assert says in str(result.error)


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
