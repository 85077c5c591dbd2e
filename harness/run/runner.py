"""One experiment from its file to its verdict. The only place that knows the order of things.

    plan  ->  stage up  ->  load, faults, jobs  ->  settle  ->  collect  ->  stage down  ->  judge  ->  report

What was asked is saved before anything starts; evidence as it comes; the verdict last. Whatever goes
wrong, the stage comes down and what evidence there is stays in the run folder.

Where evidence can still be had there is a verdict: a link engine, a witness or a load generator that
ends uninvited ends the load early, and the rest goes its way. Only what breaks the harness itself ends
without a verdict.
"""

from __future__ import annotations

import errno
import os
import platform
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from harness.check.judge import judge
from harness.check.verdict import Verdict
from harness.errors import EnvironmentBroken, ExitCode, LedgerquakeError
from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, LoadSummary, Timeline
from harness.experiment.model import Experiment
from harness.experiment.target import Mutant, TargetSpec
from harness.fault.base import Context
from harness.load import records
from harness.load.driver import LoadDriver
from harness.plan import Plan
from harness.report import render
from harness.run.afterwards import Afterwards
from harness.run.collecting import collect
from harness.run.conductor import Conductor, Stagehand
from harness.run.ground import Ground
from harness.run.interrupts import Interrupts
from harness.run.sampling import Sampler
from harness.run.settling import wait_settled
from harness.run.stage import Stage

_EXIT = {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}


@dataclass(frozen=True)
class Asked:
    """All that is known before anything runs: checked input, resolved against target and machine."""

    experiment: Experiment
    source: str  # the experiment file as written
    spec: TargetSpec
    plan: Plan
    ground: Ground
    mutant: Mutant | None
    reports: Path
    command: str


@dataclass(frozen=True)
class RunResult:
    """``error`` is set when the harness or its environment broke; ``verdict`` when there is one.

    ``folder`` None: it could not be made.
    """

    name: str
    folder: Path | None
    exit_code: int
    verdict: Verdict | None = None
    error: LedgerquakeError | None = None


def run_experiment(asked: Asked, tell: Stagehand) -> RunResult:
    """Run, judge and report. What breaks once there is a run folder is in ``RunResult.error``."""
    run_id = new_run_id(asked.experiment.name)
    folder = RunFolder.create(asked.reports, run_id)
    folder.write_experiment(asked.source, asked.experiment)
    folder.copy_target(asked.spec)
    folder.write_plan(asked.plan)
    run = _Run(asked, run_id, folder, tell)
    tell.event(f"run {run_id}, seed {asked.plan.seed}")
    tell.event(f"runtime {asked.ground.name} ({asked.ground.why}), Toxiproxy {asked.ground.engine_label}")
    with Interrupts(tell.event) as interrupts:
        result = _to_the_end(run, asked.experiment.name, folder, interrupts, tell)
        # Whoever asked for the end gets it, whatever broke on the way there, and whatever the verdict is.
        return replace(result, exit_code=ExitCode.ABORTED) if interrupts.signalled else result


def _to_the_end(
    run: _Run, name: str, folder: RunFolder, interrupts: Interrupts, tell: Stagehand
) -> RunResult:
    """A verdict once reached stays in the result, whatever happens to its report."""
    verdict: Verdict | None = None
    try:
        run.play(interrupts)
    except Exception as problem:
        error = deliberate(problem, folder)
        with suppress(OSError):  # a full disk, maybe: the cause is told all the same
            run.save_timeline(aborted=error.message)
        return RunResult(name, folder.path, error.exit_code, error=error)
    tell.phase("judging")
    try:
        verdict = judge(folder)
        folder.write_verdict(verdict)
        render(folder.path)
    except Exception as problem:
        error = deliberate(problem, folder)
        return RunResult(name, folder.path, error.exit_code, verdict, error)
    return RunResult(name, folder.path, _EXIT[verdict.verdict], verdict)


def deliberate(problem: Exception, folder: RunFolder | None = None) -> LedgerquakeError:
    """A mistake of the harness itself becomes an error like the others; its traceback lies with the logs."""
    if isinstance(problem, LedgerquakeError):
        return problem
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        error: LedgerquakeError = disk_full(problem)
    else:
        error = LedgerquakeError(f"the harness broke: {type(problem).__name__}: {problem}")
    if folder is not None and error.hint is None:
        where = folder.logs / "harness.log"
        with suppress(OSError):
            where.write_text("".join(traceback.format_exception(problem)), encoding="utf-8")
        error.hint = f"the traceback is in {where}"
    for note in getattr(problem, "__notes__", ()):
        error.add_note(note)
    return error


def disk_full(problem: OSError) -> EnvironmentBroken:
    where = f" at {problem.filename}" if problem.filename else ""
    return EnvironmentBroken(
        f"the disk is full{where}: {os.strerror(problem.errno or errno.ENOSPC)}",
        hint=f"make room where run folders (--reports) and temporary files ({tempfile.gettempdir()}) lie",
    )


class _Run:
    """The state of one run while it is played."""

    def __init__(self, asked: Asked, run_id: str, folder: RunFolder, tell: Stagehand) -> None:
        self._asked = asked
        self._run_id = run_id
        self._folder = folder
        self._tell = tell
        self._times: dict[str, Any] = {"deploy_started_ns": time.time_ns()}

    def play(self, interrupts: Interrupts) -> None:
        asked = self._asked
        stage = Stage(
            asked.spec,
            self._run_id,
            asked.plan.seed,
            asked.ground,
            asked.mutant,
            self._folder.logs,
            self._tell.event,
        )
        with stage:
            self._tell.phase(
                "deploying", f"{len(asked.spec.services)} services, {len(asked.spec.links)} links"
            )
            stage.come_up(interrupts.stopping)
            self._times["ready_ns"] = time.time_ns()
            self._folder.write_environment(self._environment(stage.versions()))
            with Afterwards() as last:
                last.callback(self._note_deaths, stage)
                if not interrupts.stopping():
                    self._drive(stage, interrupts)
            self._tell.phase("removing")
        self._times["aborted"] = interrupts.reason
        self.save_timeline()

    def _note_deaths(self, stage: Stage) -> None:
        self._times["deaths"] = stage.deaths()

    def _drive(self, stage: Stage, interrupts: Interrupts) -> None:
        """Load, faults, settle, collect; what was seen is saved even when a step breaks."""

        def give_up(why: str) -> None:
            if not interrupts.stopping():
                self._tell.event(f"{why}: the run ends early and is judged by what can still be had")
                interrupts.stop(why)

        asked = self._asked
        driver = self._driver(stage)
        samples = self._folder.open_samples()
        sampler = Sampler(asked.spec, stage.runtime, samples.append)
        context = Context(
            spec=asked.spec,
            runtime=stage.runtime,
            links=stage.links,
            say=self._tell.event,
            arrivals_per_s=lambda a_ns, b_ns: arrivals_per_s(driver, a_ns, b_ns),
            stopping=interrupts.stopping,
        )

        def look() -> str | None:
            sampler.check()
            return stage.fallen()

        def look_and_mend() -> None:
            if why := look():
                give_up(why)
                stage.mend()

        conductor = Conductor(asked.plan, context, stage.journal, driver, self._tell, look, give_up)
        with Afterwards() as last:  # the last one first
            last.callback(self._save, conductor)
            last.callback(samples.close)
            last.callback(sampler.stop)
            last.callback(self._stop_load, driver)
            try:
                driver.arm()
                sampler.start()
                conductor.conduct(driver.start())
                self._stop_load(driver)
                self._settle(stage, conductor, interrupts, look_and_mend)
            except Exception as error:
                interrupts.stop(str(error))  # whoever still waits wakes up, and heals
                conductor.break_off()
                raise
        if not interrupts.signalled:
            self._collect(stage)

    def _collect(self, stage: Stage) -> None:
        self._tell.phase("collecting")
        collected = collect(self._asked.spec, stage.runtime, self._folder)
        self._times.update(moved_after_snapshot=collected.moved, not_collected=collected.missing)
        for missing in collected.missing:
            self._tell.event(missing)
        if not collected.missing:
            self._times["collected_ns"] = time.time_ns()

    def _driver(self, stage: Stage) -> LoadDriver:
        spec = self._asked.spec
        target = Path(spec.folder)

        def entry_url(link: str) -> str:
            return f"http://{stage.runtime.link(link).listen}"

        return LoadDriver(
            self._asked.plan.load,
            host_url=entry_url(spec.entry),
            entries={name: entry_url(link) for name, link in spec.entries.items()},
            locustfile=target / spec.locustfile,
            python_path=[target / path for path in spec.python_path],
            spawner=stage.supervisor,
            folder=stage.supervisor.scratch / "load",
        )

    def _stop_load(self, driver: LoadDriver) -> None:
        if "load" in self._times or not driver.operations_file.exists():
            return
        summary: LoadSummary = driver.stop()
        self._times["load"] = summary
        self._folder.write_operations(records.read(driver.operations_file))
        if driver.log.exists():
            (self._folder.logs / "load.log").write_bytes(driver.log.read_bytes())

    def _settle(
        self, stage: Stage, conductor: Conductor, interrupts: Interrupts, look: Callable[[], None]
    ) -> None:
        within_s = self._asked.plan.settle_within_s
        self._tell.phase("settling", f"at most {within_s:g} s")
        settled_ns, pending = wait_settled(
            self._asked.spec, stage.runtime, within_s, lambda: interrupts.signalled, self._tell.event, look
        )
        self._times.update(settled_ns=settled_ns, settle_pending=pending)
        conductor.join_jobs(within_s if pending else 2.0)

    def _save(self, conductor: Conductor) -> None:
        done = conductor.done
        if done is None:  # load never started
            return
        steady_ns = done.load_started_ns + int(self._asked.plan.steady_s * 1e9)
        self._times.update(
            load_started_ns=done.load_started_ns,
            steady_ended_ns=min(steady_ns, done.load_ended_ns or steady_ns),
            first_injection_ns=done.first_injection_ns,
            last_healing_ns=done.last_healing_ns,
            load_ended_ns=done.load_ended_ns,
        )
        self._folder.write_faults(done.faults)
        self._folder.write_jobs(done.jobs)

    def save_timeline(self, aborted: str | None = None) -> None:
        """windows.json; instants that never came are those of the last phase that did."""
        last = time.time_ns()
        fields = {"ready_ns": last, "load_started_ns": last, "steady_ended_ns": last, **self._times}
        if aborted is not None:
            fields["aborted"] = aborted
        self._folder.write_timeline(Timeline(**fields))

    def _environment(self, versions: Mapping[str, str]) -> Environment:
        asked = self._asked
        return Environment(
            run_id=self._run_id,
            seed=asked.plan.seed,
            runtime=asked.ground.name,
            toxiproxy=asked.ground.engine_label,
            mutant=asked.mutant.name if asked.mutant else None,
            versions=dict(versions),
            machine=machine(),
            user=os.environ.get("USER") or str(os.getuid()),
            command=asked.command,
        )


def arrivals_per_s(driver: LoadDriver, from_ns: int, to_ns: int) -> float | None:
    """Mean intended arrivals a second over the whole seconds in between; None when there are none."""
    counts = [s.intended for s in driver.live() if s.at_ns >= from_ns and s.at_ns + 10**9 <= to_ns]
    return sum(counts) / len(counts) if counts else None


def new_run_id(name: str) -> str:
    """Sorts by time, says what it is, and is unique."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{stamp}-{name[:30]}-{random.SystemRandom().randrange(16**4):04x}"


def machine() -> dict[str, str | int | float]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": sys.version.split()[0],
    }
