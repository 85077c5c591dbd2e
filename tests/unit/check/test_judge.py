"""The verdict on whole run folders: what makes it a pass, a fail, inconclusive, and what takes precedence."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.check.judge import judge, read_verdict
from harness.check.verdict import Verdict
from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.evidence.model import FaultRecord, Proof, Timeline
from harness.experiment.model import InvariantsHold
from tests.histories.history import START_NS, base, edited, write_folder
from tests.unit.check.staged import EVERY, HOLD, LOAD, objective, of, reads, stage


def test_a_legal_run_passes_with_every_invariant_heard(tmp_path: Path) -> None:
    verdict = judge(
        stage(
            tmp_path, expect=(HOLD, objective("balance.success", 99), objective("balance.p99", 500, op="<="))
        )
    )
    assert verdict.verdict == "pass", verdict.reasons
    # In this history no PSP is cut off, and nobody is late for long: AV4 and DUN2 do not apply.
    assert {i.id for i in verdict.invariants if i.verdict != "pass"} <= {"AV1", "AV4", "DUN2"}
    assert verdict.reasons == () and verdict.replay.endswith("--seed 7 --runtime process --toxiproxy builtin")
    assert [round(e.measured or 0) for e in verdict.expectations] == [0, 100, 10]
    assert set(verdict.windows) == {"steady", "fault", "recovery", "recovered", "run"}
    assert verdict.recovery_s == 0  # balance never suffered; the others are too rare to say


def test_a_conviction_names_its_subject_and_tells_its_story(tmp_path: Path) -> None:
    history = edited(
        [
            {"delete": "charging.posting", "where": {"transaction_id": "t15"}},
            {"delete": "charging.transaction", "where": {"id": "t15"}},
        ]
    )
    verdict = judge(stage(tmp_path, history=history))
    assert verdict.verdict == "fail"
    assert any(reason.startswith("PAY1") for reason in verdict.reasons)
    (example,) = next(i for i in verdict.invariants if i.id == "PAY1").examples
    assert example.subject == "k2" and example.row["credited_minor"] == 0
    sources = {entry.source for entry in example.timeline}
    assert {"operations", "payments.payment", "witness psp-b", "payments.outbox", "fault"} <= sources
    assert {"notify.inbox", "witness gateway"} & sources, "the event is followed, too"
    assert [e.at_ns for e in example.timeline] == sorted(e.at_ns for e in example.timeline)
    assert verdict.impact["acknowledged_writes_lost"] == 1


LAGGING = LOAD.model_copy(update={"lag_p99_ms": 150})
SLACK = LOAD.model_copy(update={"sent": 980, "recorded": 980})
HOLES = LOAD.model_copy(update={"recorded": 990})


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"aborted": "Ctrl-C"}, "inconclusive", "aborted"),
        ({"load": None}, "inconclusive", "said nothing"),
        ({"load": LAGGING}, "inconclusive", "came late"),
        ({"load": SLACK}, "inconclusive", "fell behind"),
        ({"load": HOLES}, "inconclusive", "history is incomplete"),
        ({"settled_ns": None, "settle_pending": {"outboxes": 3}}, "fail", "still pending"),
        (
            {"settled_ns": None, "settle_pending": {"outboxes": 3}, "load": LAGGING, "expect": (EVERY,)},
            "inconclusive",
            "AV1 It recovers by itself, and drains its backlog: load came late",
        ),
        ({"settled_ns": None, "settle_pending": {"outboxes": -1}}, "inconclusive", "cannot be said"),
        ({"expect": (objective("charging.p99", 500, op="<="),)}, "inconclusive", "20 are needed"),
        ({"expect": (objective("balance.p99", 5, op="<="),)}, "fail", "measured 10"),
        ({"expect": (objective("balance.p99", 5, op="<="),), "load": LAGGING}, "inconclusive", "came late"),
        ({"expect": (InvariantsHold(text="invariants PAY* hold", patterns=("PAY*",)),)}, "pass", ""),
        (
            {"expect": (InvariantsHold(text="invariants XYZ* hold", patterns=("XYZ*",)),)},
            "inconclusive",
            "none of",
        ),
    ],
)
def test_verdict(tmp_path: Path, changes: dict[str, Any], verdict: str, reason: str) -> None:
    found = judge(stage(tmp_path, **changes))
    assert found.verdict == verdict, found.reasons
    assert reason in " | ".join(found.reasons)


def test_an_incomplete_history_convicts_nobody(tmp_path: Path) -> None:
    history = edited([{"delete": "operations", "where": {"id": "o1"}}])  # PAY2 would speak
    assert judge(stage(tmp_path / "a", history=history)).verdict == "fail"
    assert judge(stage(tmp_path / "b", history=history, load=HOLES)).verdict == "inconclusive"


def test_an_unproved_fault_is_inconclusive(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    crash, *others = folder.read_faults()
    unseen = crash.model_copy(update={"proof": Proof(proved=False, text="no process was gone")})
    folder.write_faults([unseen, *others])
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive" and "no process was gone" in verdict.reasons[0]
    folder.write_faults(others)
    assert f"{len(others) + 1} faults were asked for" in judge(folder).reasons[0]


def test_no_steady_state_is_inconclusive_not_a_failure(tmp_path: Path) -> None:
    broken = of(reads(0, 10, outcome="unknown"))
    steady = objective("balance.success", 99.9, "steady")
    verdict = judge(stage(tmp_path, history=broken, expect=(steady,)))
    assert verdict.verdict == "inconclusive" and "no steady state" in verdict.reasons[0]


def test_missing_evidence_is_inconclusive(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    (folder.witness / "psp-b.jsonl").unlink()  # half of the PSPs would be a false witness
    (folder.sql / "charging.posting.parquet").unlink()
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive"
    assert {i.id: i.verdict for i in verdict.invariants}["PAY4"] == "inconclusive"
    assert "psp" in next(i.reason for i in verdict.invariants if i.id == "PAY4")


def test_an_aborted_run_that_never_came_up_has_a_verdict(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "early")
    whole = stage(tmp_path / "other")
    folder.write_experiment("name: history\n", whole.read_experiment())
    folder.copy_target(whole.read_target())
    now = Timeline(deploy_started_ns=1, ready_ns=1, load_started_ns=1, steady_ended_ns=1, aborted="Ctrl-C")
    folder.write_timeline(now)
    (folder.path / "plan.json").write_text(
        '{"name":"history","seed":3,"steady_s":1,"faults":[],"jobs":[],"load":{"seed":3,"arrivals":"poisson",'
        '"segments":[],"mix":{},"subscribers":1,"max_duration_s":1},"recover_within_s":1,"recovered_s":1,'
        '"settle_within_s":1}'
    )
    verdict = judge(folder)
    assert verdict.verdict == "inconclusive" and "Ctrl-C" in verdict.reasons[0] and verdict.seed == 3
    assert verdict.replay.endswith("--seed 3"), "no runtime and no engine had been chosen"


def test_judging_is_repeatable_and_the_verdict_survives_its_file(tmp_path: Path) -> None:
    folder = stage(tmp_path)
    with pytest.raises(InputError):
        read_verdict(folder)
    first, second = judge(folder), judge(folder)
    assert first == second
    folder.write_verdict(first)
    assert read_verdict(folder) == first
    assert '"for": ' in folder.verdict.read_text() and isinstance(first, Verdict)


def test_recovery_objective(tmp_path: Path) -> None:
    """Balance is down for 4 s after the last healing (33 s)."""
    down = {"outcome": "unknown", "status": 503}
    history = of(reads(0, 33, every=0.05), reads(33, 37, every=0.05, **down), reads(37, 50, every=0.05))
    quick, slow = objective("balance.recovery", 3000, op="<="), objective("balance.recovery", 5000, op="<=")
    folder = stage(tmp_path, history=history, expect=(quick, slow))
    verdict = judge(folder)
    assert [e.verdict for e in verdict.expectations] == ["fail", "pass"]
    assert verdict.recovery_s == pytest.approx(4, abs=0.3)
    assert verdict.windows["recovery"].end == pytest.approx(37, abs=0.3)


def test_a_measure_that_never_came_is_worse_than_any_limit(tmp_path: Path) -> None:
    edits: list[dict[str, Any]] = [reads(0, 50)]
    for number in range(25):
        event = f"m{number:02d}"
        payload = {"payment_id": event, "key": event, "subscriber": 1, "amount_minor": 100}
        edits.append(
            {"insert": "payments.outbox", "row": {"event_id": event, "subject": "payment.settled",
             "created_at": 40 + number / 10, "payload": payload}}
        )  # fmt: skip
        if number < 20:
            edits.append(
                {
                    "insert": "witness.gateway",
                    "row": {"event": "delivered", "event_id": event, "at_ns": 41 + number / 10},
                }
            )
    expect = (
        objective("notifications.delay.p50", 2000, "recovered", "<="),
        objective("notifications.delay.p99", 60000, "recovered", "<="),
    )
    verdict = judge(stage(tmp_path, history=of(*edits), expect=expect))
    assert [(e.verdict, e.measured) for e in verdict.expectations] == [("pass", 1000.0), ("fail", None)]


def test_the_base_is_legal_on_its_own(tmp_path: Path) -> None:
    folder = write_folder(base(), tmp_path)
    record = folder.read_faults()[0]
    assert isinstance(record, FaultRecord) and record.injected_ns == START_NS + 10 * 10**9


QUIET = InvariantsHold(text="invariants PAY5 hold", patterns=("PAY5",))


def test_a_violated_invariant_fails_the_run_also_where_nobody_asked(tmp_path: Path) -> None:
    history = of(reads(0, 50), {"delete": "operations", "where": {"id": "o1"}})  # PAY2 speaks
    verdict = judge(stage(tmp_path / "a", history=history, expect=(QUIET,)))
    assert [e.verdict for e in verdict.expectations] == ["pass"] and verdict.verdict == "fail"
    assert any("PAY2" in r and r.endswith("(no expectation names it)") for r in verdict.reasons)
    assert {i.id: i.asked for i in verdict.invariants}.items() >= {"PAY5": True, "PAY2": False}.items()
    doubted = judge(stage(tmp_path / "b", history=history, expect=(QUIET,), load=HOLES))
    assert doubted.verdict == "inconclusive"


def test_what_nobody_asked_and_nobody_can_say_counts_nothing(tmp_path: Path) -> None:
    folder = stage(tmp_path, expect=(objective("balance.success", 99),))
    (folder.sql / "charging.posting.parquet").unlink()
    verdict = judge(folder)
    assert "inconclusive" in {i.verdict for i in verdict.invariants}
    assert verdict.verdict == "pass" and verdict.reasons == ()


def test_a_kind_that_was_sent_is_present_whatever_the_mix_says(tmp_path: Path) -> None:
    """A repetition that finds nothing to repeat is sent as what it repeats."""
    folder = stage(tmp_path)
    asked = folder.read_experiment()
    load = asked.load.model_copy(update={"mix": {"balance": 1.0}})
    folder.write_experiment("name: history\n", asked.model_copy(update={"load": load}))
    answers = {i.id: i.verdict for i in judge(folder).invariants}
    assert answers["PAY1"] == answers["LED3"] == answers["USE1"] == "pass"


def test_what_was_measured_is_not_rounded(tmp_path: Path) -> None:
    history = of(reads(0, 49), reads(49, 49.15, outcome="unknown", result=None))
    (found,) = judge(
        stage(tmp_path, history=history, expect=(objective("balance.success", 99.9),))
    ).expectations
    assert found.measured is not None and found.measured != round(found.measured, 3)


def test_replay_is_a_command_that_a_shell_takes(tmp_path: Path) -> None:
    folder = stage(tmp_path / "a folder; of mine")
    words = shlex.split(judge(folder).replay)
    assert words[:3] == ["ledgerquake", "run", str(folder.path / "experiment.yaml")]
    assert words[3:] == ["--seed", "7", "--runtime", "process", "--toxiproxy", "builtin"]
