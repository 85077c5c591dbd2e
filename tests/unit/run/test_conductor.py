"""The conducting loop: how load may end, and that nothing breaks off unnoticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import FaultRecord, JobRecord, Proof
from harness.load.figures import LiveSecond
from harness.plan import PlannedFault, PlannedJob
from harness.run import conductor as module
from harness.run.conductor import Conductor

from .stand_ins import Driver, Stagehand, context, plan

FAULT = PlannedFault(id="f1-toy", fault="toy", at_s=0.1, until_s=0.2)
JOB = JobRecord(job="settlement", started_ns=1, ended_ns=2, attempts=1, done=True)
pytestmark = pytest.mark.timeout(20)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_fault", lambda planned, context: None)


class Run:
    """A conductor that may be given up, with what it said."""

    def __init__(self, plan: Any, driver: Driver, look: Callable[[], str | None] = lambda: None) -> None:
        self.given_up: list[str] = []
        self.tell = Stagehand()
        around = context(stopping=lambda: bool(self.given_up))
        self.conductor = Conductor(plan, around, None, driver, self.tell, look, self.given_up.append)  # type: ignore[arg-type]


def lasting(seconds: float) -> Any:
    """A fault whose healing takes its time."""

    def carry_out(fault: Any, planned: PlannedFault, *rest: Any) -> FaultRecord:
        injected_ns = time.time_ns()
        rest[-1](planned.id, "injected")
        time.sleep(seconds)
        rest[-1](planned.id, "healed")
        return FaultRecord(
            id=planned.id,
            fault=planned.fault,
            touches=(),
            params={},
            injected_ns=injected_ns,
            healed_ns=time.time_ns(),
            proof=Proof(proved=True, text="seen"),
        )

    return carry_out


def test_load_that_ran_its_longest_time_is_over_and_the_faults_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "carry_out", lasting(1.5))
    conductor = Run(plan(FAULT, max_duration_s=0.6), Driver(for_s=0.7)).conductor
    started_ns = time.time_ns()
    done = conductor.conduct(started_ns)
    assert [fault.proof.proved for fault in done.faults] == [True]
    assert done.load_ended_ns == started_ns + 600_000_000, "load ended then, not when the fault was healed"


@pytest.mark.parametrize(("for_s", "code"), [(0.3, 0), (8.1, 3)])
def test_load_that_ends_early_or_badly_ends_the_run_early(for_s: float, code: int) -> None:
    driver = Driver(for_s=for_s, exit_code_then=code)
    driver.started_s -= max(0.0, for_s - 0.3)
    due_later = FAULT.model_copy(update={"at_s": 6.0, "until_s": 7.0})
    run = Run(plan(due_later, max_duration_s=8), driver)
    done = run.conductor.conduct(time.time_ns())
    assert run.given_up == [f"the load generator ended before its time, exit code {code}"]
    assert len(done.faults) == 1 and done.load_ended_ns is not None


def test_load_goes_on_until_recovery_has_lasted_though_it_be_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "carry_out", lasting(0.1))
    monkeypatch.setattr(module, "ASK_AGAIN_NS", 0)
    begun = time.time_ns()
    later_ns = begun + 900_000_000
    asked: list[Any] = []

    def recovered_so_far(rows: Any, functions: Any, timeline: Any, now_ns: int) -> int | None:
        """From 0.3 s on, as it seems until 0.6 s; really from 0.9 s on."""
        asked.append(timeline)
        if now_ns > later_ns:
            return later_ns
        return begun + 300_000_000 if now_ns < begun + 600_000_000 else None

    monkeypatch.setattr(module, "recovered_so_far", recovered_so_far)
    lasts = plan(FAULT, max_duration_s=8).model_copy(update={"recovered_s": 0.5, "recover_within_s": 5.0})
    done = Run(lasts, Driver()).conductor.conduct(begun)
    assert done.recovered_ns == later_ns
    assert later_ns + 500_000_000 < (done.load_ended_ns or 0) < later_ns + 1_500_000_000
    assert begun < asked[0].first_injection_ns < asked[0].last_healing_ns


def test_a_fault_that_breaks_off_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(*_: Any) -> FaultRecord:
        raise KeyError("f1")

    monkeypatch.setattr(module, "carry_out", carry_out)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    monkeypatch.setattr(module, "run_job", lambda name, *rest: JOB)
    job = PlannedJob(at_s=0.0, run=JOB.job)
    conductor = Run(plan(FAULT, max_duration_s=8).model_copy(update={"jobs": (job,)}), Driver()).conductor
    started_ns = time.time_ns()
    with pytest.raises(EnvironmentBroken, match="f1-toy broke off: KeyError"):
        conductor.conduct(started_ns)
    conductor.break_off()
    assert conductor.done is not None and conductor.done.jobs == [JOB], "what was seen is not lost"
    assert conductor.done.load_started_ns == started_ns < (conductor.done.load_ended_ns or 0)


def test_what_the_evidence_rests_on_is_looked_at_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "carry_out", lasting(1.5))
    fallen_s = time.monotonic() + 1.0

    def look() -> str | None:
        return "the engine ended" if time.monotonic() > fallen_s else None

    run = Run(plan(FAULT, max_duration_s=0.5), Driver(for_s=0.6), look)
    done = run.conductor.conduct(time.time_ns())  # it falls while the fault is waited for
    assert run.given_up == ["the engine ended"]
    assert [fault.healed_ns is not None for fault in done.faults] == [True]


def test_a_second_in_which_nothing_finished_has_no_figures() -> None:
    silent = LiveSecond(0, 0, 7, 0, 0, 0, None, None, in_flight=7, waiting=0, users=9, lag_p99_ms=None)
    driver = Driver(for_s=0.3, seconds=(silent,))
    run = Run(plan(max_duration_s=0.3), driver)
    run.conductor.conduct(time.time_ns())
    assert (0, 7, None, None) in run.tell.told
