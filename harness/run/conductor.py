"""The timeline of one run, from the start of load to its end: faults and jobs at their instants.

One thread per fault and per job, each of which sleeps until its time; the conducting loop watches
the load, tells the progress, and decides when load may end: after recovery plus the time asked for,
or when recovery has not come within its limit. Nothing here judges; recovery is measured as the judge will.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from harness.check.online import HOLD_S, recovered_so_far
from harness.errors import EnvironmentBroken
from harness.evidence.model import FaultRecord, JobRecord, LoadPhases, Proof
from harness.fault.base import Context
from harness.fault.carry_out import HealingLog, carry_out
from harness.fault.registry import make_fault
from harness.load.driver import LiveSecond, LoadDriver
from harness.load.records import Growing
from harness.plan import Plan, PlannedFault, PlannedJob
from harness.run.database import Asker
from harness.run.jobs import run_job

MOMENT_POLL_S = 0.01
LOOP_S = 0.1
ASK_AGAIN_NS = 1_000_000_000  # all recorded operations are measured anew each time
RECORDED_S = 2.0
JOBS_END_S = 2.0  # a job's call that is under way when the run stops
CLOCKS_DIFFER_NS = 1_000_000_000  # the generator's clock is monotonic, ours may be set


class Stagehand(Protocol):
    """Who is told what happens (the progress on the terminal)."""

    def event(self, text: str) -> None: ...

    def fault(self, id: str, state: str) -> None: ...

    def load(self, second: int, rate: float | None, ok_percent: float | None, p99_ms: float | None) -> None:
        """None: nothing was due, nothing completed."""

    def phase(self, name: str, detail: str = "") -> None: ...


@dataclass
class Conducted:
    """What happened (epoch ns)."""

    load_started_ns: int
    load_ended_ns: int | None = None
    recovered_ns: int | None = None
    faults: list[FaultRecord] = field(default_factory=list)
    jobs: list[JobRecord] = field(default_factory=list)

    @property
    def first_injection_ns(self) -> int | None:
        return min((f.injected_ns for f in self.faults if f.injected_ns is not None), default=None)

    @property
    def last_healing_ns(self) -> int | None:
        return max((f.healed_ns for f in self.faults if f.healed_ns is not None), default=None)


class Conductor:
    """Conducts one plan. ``conduct`` returns when load may end; ``join_jobs`` after settling.

    ``look`` is called again and again, and says why there is no use in going on, or None. ``give_up`` is
    told so, and must make ``context.stopping`` true: faults are then healed and load ends early. What
    happened so far stands in ``done`` from the start of load, whatever is raised.
    """

    def __init__(
        self,
        plan: Plan,
        context: Context,
        journal: HealingLog,
        driver: LoadDriver,
        tell: Stagehand,
        look: Callable[[], str | None],
        give_up: Callable[[str], None],
    ) -> None:
        self.done: Conducted | None = None
        self._plan = plan
        self._context = context
        self._journal = journal
        self._driver = driver
        self._recorded = Growing(driver.operations_file)
        self._tell = tell
        self._look = look
        self._give_up = give_up
        self._broken_off: list[str] = []
        self._lock = threading.Lock()
        self._injected_ns: dict[str, int] = {}
        self._healed_ns: dict[str, int] = {}
        self._shown = -1
        self._threads: list[threading.Thread] = []
        self._jobs: list[threading.Thread] = []

    def conduct(self, load_started_ns: int) -> Conducted:
        """Raises EnvironmentBroken when a fault or a job broke off."""
        self.done = done = Conducted(load_started_ns)
        try:
            self._until_load_may_end(done)
            self.join_faults()
            self._check_threads()
        finally:
            done.load_ended_ns = min(time.time_ns(), self._last_ns(done))
        return done

    def _until_load_may_end(self, done: Conducted) -> None:
        self._tell.phase("steady", f"{self._plan.steady_s:g} s without a fault")
        self._threads = [self._start(fault.id, self._run_fault, fault, done) for fault in self._plan.faults]
        self._jobs = [self._start(f"job {job.run}", self._run_job, job, done) for job in self._plan.jobs]
        asked_ns = 0
        while not self._context.stopping():
            time.sleep(LOOP_S)
            live = self._driver.live()
            self._show(live)
            self._check()
            if self._load_is_over(done):
                self._tell.event("load has run its longest time")
                self._await_faults()
                break
            now = time.time_ns()
            if self._faults_at_work() and not self._all_healed():
                continue
            if not asked_ns and self._plan.faults:
                self._tell.phase("recovery", f"at most {self._plan.recover_within_s:g} s")
            if now > asked_ns + ASK_AGAIN_NS:
                asked_ns = now
                if self._may_end(done, now):
                    break

    def join_faults(self) -> None:
        """Wait until every fault is healed and judged; each is bounded by its own waits."""
        for thread in self._threads:
            thread.join()

    def join_jobs(self, timeout_s: float) -> None:
        self._await_jobs(timeout_s)
        self._check_threads()

    def break_off(self) -> None:
        """Whatever was raised: wait for what still heals and records. The run is stopping."""
        self.join_faults()
        self._await_jobs(JOBS_END_S)

    # --- the loop's parts -----------------------------------------------------------------------
    def _await_jobs(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        for thread in self._jobs:
            thread.join(max(0.1, deadline - time.monotonic()))

    def _show(self, live: Sequence[LiveSecond]) -> None:
        for second in live:
            if second.second > self._shown:
                self._shown = second.second
                ok_percent = 100 * second.ok / second.finished if second.finished else None
                self._tell.load(second.second, second.intended, ok_percent, second.p99_ms)

    def _check(self) -> None:
        self._check_threads()
        if why := self._look():
            self._give_up(why)

    def _check_threads(self) -> None:
        """A fault or job that broke off leaves no record, and maybe something unhealed."""
        if self._broken_off:
            raise EnvironmentBroken("; ".join(self._broken_off))

    def _last_ns(self, done: Conducted) -> int:
        """When load ends by itself, if nobody ends it before."""
        return done.load_started_ns + int(self._plan.load.max_duration_s * 1e9)

    def _load_is_over(self, done: Conducted) -> bool:
        """Whether it has run its longest time. When it ended in another way, the run is given up."""
        if self._driver.alive():
            return False
        in_time = time.time_ns() >= self._last_ns(done) - CLOCKS_DIFFER_NS
        if self._driver.exit_code == 0 and in_time:
            return True
        self._give_up(f"the load generator ended before its time, exit code {self._driver.exit_code}")
        return False

    def _await_faults(self) -> None:
        while self._faults_at_work() and not self._context.stopping():
            self._check()
            time.sleep(LOOP_S)

    def _faults_at_work(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _all_healed(self) -> bool:
        with self._lock:
            return len(self._healed_ns) == len(self._plan.faults)

    def _may_end(self, done: Conducted, now_ns: int) -> bool:
        """After recovery and the time asked for, or when there is no hope left for it to come in time."""
        so_far = self._so_far(done)
        functions = self._context.spec.functions
        recovered_ns = recovered_so_far(self._recorded.table(), functions, so_far, now_ns)
        if recovered_ns is not None and done.recovered_ns is None and self._plan.faults:
            took_s = (recovered_ns - so_far.undisturbed_ns) / 1e9
            self._tell.phase("recovered", f"after {took_s:.1f} s")
        done.recovered_ns = recovered_ns
        if recovered_ns is None:
            # recovered in the last instant: it must be seen to hold, and to be recorded
            last_s = self._plan.recover_within_s + HOLD_S + RECORDED_S
            return now_ns > so_far.undisturbed_ns + int(last_s * 1e9)
        return now_ns > recovered_ns + int(self._plan.recovered_s * 1e9)

    def _so_far(self, done: Conducted) -> LoadPhases:
        with self._lock:
            return LoadPhases(
                load_started_ns=done.load_started_ns,
                steady_ended_ns=done.load_started_ns + int(self._plan.steady_s * 1e9),
                first_injection_ns=min(self._injected_ns.values(), default=None),
                last_healing_ns=max(self._healed_ns.values(), default=None),
            )

    # --- faults and jobs ------------------------------------------------------------------------
    def _start(self, name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                target(*args)
            except BaseException as problem:
                self._broken_off.append(f"{name} broke off: {type(problem).__name__}: {problem}")

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _sleep_until(self, load_started_ns: int, at_s: float) -> bool:
        """False when the run stops before."""
        self._context.sleep((load_started_ns + int(at_s * 1e9) - time.time_ns()) / 1e9)
        return not self._context.stopping()

    def _run_fault(self, planned: PlannedFault, done: Conducted) -> None:
        record = self._carry_out(planned, done)
        with self._lock:
            done.faults.append(record)
            self._healed_ns.setdefault(planned.id, record.healed_ns or time.time_ns())
        word = "proved" if record.proof.proved else "NOT proved"
        self._tell.event(f"{planned.id} {word}: {record.proof.text}")

    def _carry_out(self, planned: PlannedFault, done: Conducted) -> FaultRecord:
        if not self._sleep_until(done.load_started_ns, planned.at_s):
            return never(planned, "the run was stopped before it was due")
        if planned.when is not None and not self._wait_moment(planned):
            return never(planned, f"the moment {planned.when!r} did not come within {planned.within_s:g} s")
        fault = make_fault(planned, self._context)
        return carry_out(fault, planned, self._context, self._journal, self._on_change)

    def _on_change(self, id: str, state: str) -> None:
        with self._lock:
            if state == "injected":
                self._injected_ns[id] = time.time_ns()
            elif state == "healed":
                self._healed_ns[id] = time.time_ns()
        self._tell.fault(id, state)

    def _wait_moment(self, planned: PlannedFault) -> bool:
        sql = self._context.spec.moments[planned.when or ""].sql
        asker = Asker(self._context.spec, self._context.runtime)
        deadline = time.monotonic() + planned.within_s
        try:
            while time.monotonic() < deadline and not self._context.stopping():
                if asker.ask(sql) is True:
                    return True
                time.sleep(MOMENT_POLL_S)
        except psycopg.ProgrammingError as error:
            self._tell.event(f"the moment {planned.when!r} cannot be asked for: {error}")
        finally:
            asker.close()
        return False

    def _run_job(self, job: PlannedJob, done: Conducted) -> None:
        if not self._sleep_until(done.load_started_ns, job.at_s):
            return
        self._tell.event(f"job {job.run} started")
        limit_s = self._plan.load.max_duration_s + self._plan.settle_within_s
        record = run_job(job.run, self._context, done.load_started_ns + int(limit_s * 1e9))
        with self._lock:
            done.jobs.append(record)
        self._tell.event(
            f"job {job.run} {'done' if record.done else 'NOT done'} after {record.attempts} calls"
        )


def never(planned: PlannedFault, why: str) -> FaultRecord:
    """The record of a fault that was not injected."""
    return FaultRecord(
        id=planned.id,
        fault=planned.fault,
        touches=planned.touches,
        params=planned.params,
        injected_ns=None,
        healed_ns=None,
        proof=Proof(proved=False, text=why),
    )
