"""What our own parts and the load generator did wrong convicts nobody, and acquits nobody either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.check.judge import judge
from harness.check.punctuality import planned
from harness.evidence.model import Death, Proof
from harness.experiment.model import InvariantsHold
from harness.plan import LoadPlan, Plan, RateSegment
from tests.histories.history import START_NS
from tests.unit.check.staged import LOAD, objective, of, reads, stage

GONE = {"outcome": "unknown", "status": None, "result": None}


BACKLOG = {"settled_ns": None, "settle_pending": {"outboxes": 12}}


def died(service: str) -> dict[str, Any]:
    return {"deaths": (Death(service=service, at_ns=START_NS, exit_code=-9),)}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        (died("psp-a"), "inconclusive"),
        (died("toxiproxy"), "inconclusive"),
        ({"load": LOAD.model_copy(update={"exit_code": -9})}, "inconclusive"),
        (died("payments"), "fail"),
    ],
)
@pytest.mark.parametrize("left", [{}, BACKLOG])
def test_whose_death_convicts_nobody(
    tmp_path: Path, changes: dict[str, Any], left: dict[str, Any], verdict: str
) -> None:
    """Neither of slowness, nor of the work it left."""
    hard = objective("balance.p99", 50 if left else 5, op="<=")  # it takes 10 ms
    assert judge(stage(tmp_path, expect=(hard,), **changes, **left)).verdict == verdict


def test_a_backlog_is_the_system_s_failure(tmp_path: Path) -> None:
    assert judge(stage(tmp_path, **BACKLOG)).verdict == "fail"


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ({}, "fail"),
        ({"moved_after_snapshot": ("witness psp-a",)}, "inconclusive"),
        ({"not_collected": ("nobody holds the role 'db-primary'",)}, "inconclusive"),
    ],
)
def test_a_final_state_that_moved_or_is_not_whole_convicts_nobody_by_its_tables(
    tmp_path: Path, state: dict[str, Any], verdict: str
) -> None:
    wrong = of(reads(0, 50), {"delete": "charging.transaction", "where": {"kind": "charge"}})
    slow = objective("balance.p99", 5, op="<=")
    found = judge(stage(tmp_path / "a", history=wrong, **state))
    assert found.verdict == verdict and any(i.verdict == "fail" for i in found.invariants)
    found = judge(stage(tmp_path / "b", expect=(slow,), **state))
    assert found.verdict == "fail", "what clients measured stands"


def test_a_final_state_that_is_not_whole_is_no_pass(tmp_path: Path) -> None:
    fast = objective("balance.p99", 50, op="<=")
    found = judge(stage(tmp_path, expect=(fast,), not_collected=("the log of psp-a",)))
    assert found.verdict == "inconclusive" and "missing: the log of psp-a" in found.reasons[0]


def test_operations_that_no_user_was_free_for_are_the_target_s_doing(tmp_path: Path) -> None:
    never = {**GONE, "attempts": 0, "error": "not sent"}
    slow = objective("balance.success", 99, "run")
    load = LOAD.model_copy(update={"sent": 900, "recorded": 900})
    for queued_ns, verdict in ((0, "inconclusive"), (10**9, "fail")):
        history = of(reads(0, 40), reads(40, 50, **never, queued_ns=queued_ns))
        found = judge(stage(tmp_path / str(queued_ns), history=history, load=load, expect=(slow,)))
        assert found.verdict == verdict, found.reasons


def test_a_fault_that_could_not_be_healed_convicts_nobody(tmp_path: Path) -> None:
    folder = stage(tmp_path, expect=(objective("balance.p99", 5, op="<="),))
    crash, *others = folder.read_faults()
    left = crash.model_copy(update={"heal_error": "remove_toxic: no answer", "healed_ns": None})
    folder.write_faults([left, *others])
    folder.write_timeline(folder.read_timeline().model_copy(update=BACKLOG))
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive" and "could not be healed: remove_toxic" in verdict.reasons[0]
    assert verdict.faults[0].heal_error == "remove_toxic: no answer"


def test_a_fault_that_was_never_injected_has_no_instant(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    crash, *others = folder.read_faults()
    gone = {"id": "f9", "injected_ns": None, "healed_ns": None}
    missed = Proof(proved=False, text="the moment did not come")
    folder.write_faults([*others, crash.model_copy(update={**gone, "proof": missed})])
    verdict = judge(folder)
    assert verdict.faults[-1].at is None
    assert "f9 (crash on payments) was never injected: the moment did not come" in verdict.reasons[0]


# --- the load generator's own lateness ----------------------------------------------------------------
def late(start: float, end: float, by_s: float, *, every: float = 0.1, queued_s: float = 0.0) -> Any:
    """Reads that begin ``by_s`` after their time, ``queued_s`` of it for want of a user; 10 ms long."""
    return reads(start, end, every=every, late_s=by_s, queued_ns=int(queued_s * 1e9))


SUCCESS = objective("balance.success", 99, "fault")  # 10 s to 33 s


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        (late(12, 31, 20), "inconclusive"),  # nothing was asked while it was broken
        (late(12, 31, 20, queued_s=19.95), "pass"),  # the target kept every user busy
        (late(12, 31, 0.09), "pass"),
        (late(12, 31, 0.11), "inconclusive"),
    ],
)
def test_load_that_was_not_there_acquits_nobody(tmp_path: Path, middle: Any, verdict: str) -> None:
    history = of(reads(0, 12), middle, reads(31, 50))
    found = judge(stage(tmp_path, history=history, expect=(SUCCESS,)))
    assert found.expectations[0].verdict == verdict, found.expectations
    assert found.verdict == verdict, found.reasons
    if verdict != "pass":
        assert "the load generator was late in fault: 190 of " in found.expectations[0].reason


def test_a_fault_that_met_no_load_leaves_the_invariants_unproved(tmp_path: Path) -> None:
    history = of(reads(0, 12), late(12, 31, 20), reads(31, 50))
    quiet = InvariantsHold(text="invariants PAY* hold", patterns=("PAY*",))
    verdict = judge(stage(tmp_path, history=history, expect=(quiet,)))
    assert verdict.verdict == "inconclusive" and "not met by the load: 30 of " in verdict.reasons[0]


def test_operations_that_were_planned_and_never_sent(tmp_path: Path) -> None:
    folder = stage(tmp_path, history=of(reads(0, 12), reads(31, 50)), expect=(SUCCESS,))
    assert judge(folder).verdict == "pass", "nobody knows what was planned"
    load = LoadPlan(seed=1, arrivals="poisson", segments=(RateSegment(at_s=0, rate_per_s=10),),
                    mix={"balance": 1}, subscribers=1, max_duration_s=60)  # fmt: skip
    plan = Plan(name="history", seed=1, steady_s=10, faults=(), jobs=(), load=load,
                recover_within_s=1, recovered_s=1, settle_within_s=1)  # fmt: skip
    folder.write_plan(plan)
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive"
    assert "about 230 operations were planned, " in verdict.expectations[0].reason


def test_what_is_planned_follows_the_rates() -> None:
    segments = tuple(RateSegment(at_s=at_s, rate_per_s=rate) for at_s, rate in ((0, 10), (5, 30), (8, 10)))
    load = LoadPlan(seed=1, arrivals="poisson", segments=segments, mix={}, subscribers=1, max_duration_s=20)
    assert planned(load, 0, 20) == 50 + 90 + 120
    assert planned(load, 4, 6) == 10 + 30
    assert planned(load, 19, 40) == 10
    assert planned(load, -5, -1) == 0


def test_a_hiccup_of_the_generator_is_not_the_target_s_slowness(tmp_path: Path) -> None:
    """2 of 200 are late, 1 %: the generator was punctual enough, and yet the maximum is its own."""
    history = of(reads(0, 36), late(36, 36.2, 0.7), reads(36.2, 56, every=0.1))
    slow = objective("balance.max", 500, "recovered", "<=")
    timeline = {"load_ended_ns": START_NS + 56 * 10**9}
    (found,) = judge(stage(tmp_path / "a", history=history, expect=(slow,), **timeline)).expectations
    assert found.verdict == "inconclusive" and "it would be 20 ms but for the load generator" in found.reason
    really = of(reads(0, 36), reads(36, 36.2, takes_s=0.8), reads(36.2, 56, every=0.1))
    (found,) = judge(stage(tmp_path / "b", history=really, expect=(slow,), **timeline)).expectations
    assert found.verdict == "fail"


def test_a_generator_that_is_late_after_the_healing_convicts_nobody_of_recovering_late(
    tmp_path: Path,
) -> None:
    """Too few for the run's own lag, and yet no 3 s are free of them."""

    def after(late_by_s: float, takes_s: float) -> Any:
        edits = [reads(0, 33)]
        for start in range(33, 80, 2):
            edits += [
                reads(start, start + 0.3, late_s=late_by_s, takes_s=takes_s),
                reads(start + 0.3, start + 2),
            ]
        return of(*edits)

    timeline = {"load_ended_ns": START_NS + 81 * 10**9}
    for name, history, verdict in (
        ("late", after(0.4, 0.01), "inconclusive"),
        ("slow", after(0, 0.41), "fail"),
    ):
        found = judge(stage(tmp_path / name, history=history, **timeline))
        (av1,) = (i for i in found.invariants if i.id == "AV1")
        assert av1.verdict == verdict, av1


# --- answers that the locustfile could not read -------------------------------------------------------
def test_unreadable_answers_are_inconclusive_unless_the_rest_fails_anyway(tmp_path: Path) -> None:
    unreadable = {**GONE, "status": 200, "error": "locustfile: KeyError: 'balance_minor'"}
    success = objective("balance.success", 99, "recovered")
    history = of(reads(0, 36), reads(36, 40, **unreadable), reads(40, 50))
    verdict = judge(stage(tmp_path / "a", history=history, expect=(success,)))
    assert verdict.verdict == verdict.expectations[0].verdict == "inconclusive"
    assert any("answer of 40 balance operations (locustfile: KeyError" in r for r in verdict.reasons)
    history = of(reads(0, 36), reads(36, 40, **unreadable), reads(40, 44, **GONE), reads(44, 50))
    found = judge(stage(tmp_path / "b", history=history, expect=(objective("balance.success", 99, "run"),)))
    assert found.expectations[0].verdict == found.verdict == "fail"
