"""The conducting loop: how load may end, and that nothing breaks off unnoticed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import FaultRecord, Proof
from harness.load.figures import KindFigures, LiveSecond
from harness.plan import PlannedFault
from harness.run import conductor as module
from harness.run.conductor import Conductor

from .stand_ins import Driver, Stagehand, context, plan

FAULT = PlannedFault(id="f1-toy", fault="toy", at_s=0.1, until_s=0.2)
pytestmark = pytest.mark.timeout(20)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_fault", lambda planned, context: None)


def lasting(seconds: float) -> Any:
    """A fault whose healing takes its time."""

    def carry_out(fault: Any, planned: PlannedFault, *rest: Any) -> FaultRecord:
        injected_ns = time.time_ns()
        time.sleep(seconds)
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
    conductor = Conductor(plan(FAULT, max_duration_s=0.6), context(), None, Driver(for_s=0.7), Stagehand())  # type: ignore[arg-type]
    started_ns = time.time_ns()
    done = conductor.conduct(started_ns)
    assert [fault.proof.proved for fault in done.faults] == [True]
    assert done.load_ended_ns == started_ns + 600_000_000, "load ended then, not when the fault was healed"


@pytest.mark.parametrize(("for_s", "code"), [(0.3, 0), (8.1, 3)])
def test_load_that_ends_early_or_badly_breaks_the_run(for_s: float, code: int) -> None:
    driver = Driver(for_s=for_s, exit_code_then=code)
    driver.started_s -= max(0.0, for_s - 0.3)
    conductor = Conductor(plan(max_duration_s=8), context(), None, driver, Stagehand())  # type: ignore[arg-type]
    with pytest.raises(EnvironmentBroken, match=f"before its time, exit code {code}"):
        conductor.conduct(time.time_ns())


def test_a_fault_that_breaks_off_is_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(*_: Any) -> FaultRecord:
        raise KeyError("f1")

    monkeypatch.setattr(module, "carry_out", carry_out)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    conductor = Conductor(plan(FAULT, max_duration_s=8), context(), None, Driver(), Stagehand())  # type: ignore[arg-type]
    with pytest.raises(EnvironmentBroken, match="f1-toy broke off: KeyError"):
        conductor.conduct(time.time_ns())


def test_what_the_evidence_rests_on_is_looked_at_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "carry_out", lasting(1.5))
    broken_s = time.monotonic() + 1.0

    def check() -> None:
        if time.monotonic() > broken_s:
            raise EnvironmentBroken("the engine ended")

    conductor = Conductor(
        plan(FAULT, max_duration_s=0.5),
        context(),
        None,
        Driver(for_s=0.6),
        Stagehand(),
        check,  # type: ignore[arg-type]
    )
    with pytest.raises(EnvironmentBroken, match="the engine ended"):  # while the fault is waited for
        conductor.conduct(time.time_ns())


def test_a_second_in_which_nothing_finished_has_no_figures() -> None:
    tell = Stagehand()
    silent = LiveSecond(0, 0, KindFigures(intended=7), {}, in_flight=7, waiting=0, users=9, lag_p99_ms=None)
    driver = Driver(for_s=0.3, seconds=(silent,))
    Conductor(plan(max_duration_s=0.3), context(), None, driver, tell).conduct(time.time_ns())  # type: ignore[arg-type]
    assert (0, 7, None, None) in tell.told
