"""Synthetic run folders: a pass, a failure with counter-examples, an inconclusive and an aborted run.

The figures are invented, the files are real: they are written by ``RunFolder`` as a run writes them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.check.impact import FUNCTION_FIGURES, OVERALL
from harness.check.verdict import (
    Example,
    ExpectationVerdict,
    FaultVerdict,
    FigureNote,
    InvariantVerdict,
    TimelineEntry,
    Verdict,
    WindowVerdict,
)
from harness.evidence.folder import RunFolder
from harness.evidence.model import (
    OPERATION_COLUMNS,
    Death,
    Environment,
    FaultRecord,
    JobRecord,
    LoadSummary,
    Proof,
    Timeline,
)
from harness.experiment.model import Experiment, InvariantsHold, LoadSpec
from harness.experiment.target import TargetSpec

ZERO_NS = 1_767_225_600_000_000_000
EVIL = "<script>alert('owned')</script>"
KINDS = {"topup": 0.45, "balance": 0.3, "usage": 0.15, "roaming": 0.1}
PROOF = "process 4711 was gone after 12 ms, db-2 took over on timeline 2"


def at(seconds: float) -> int:
    """Epoch ns of an instant given in seconds from the start of load."""
    return ZERO_NS + int(seconds * 1e9)


@lru_cache
def operations(length_s: int, rate: int, error: str) -> pa.Table:
    """Open-loop traffic that suffers from 10 s on and is well again at 33 s."""
    chance = random.Random(7)
    rows: list[dict[str, Any]] = []
    for seq in range(length_s * rate):
        due = seq / rate
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        hurt = 10 <= due < 33 and kind != "usage"
        outcome = "ok"
        latency_s = 0.012 * math.exp(chance.gauss(0, 0.5))
        if hurt and chance.random() < (0.75 if due < 18 else 0.25):
            outcome = chance.choice(["unknown", "unknown", "fail"])
            latency_s = 3.0 if outcome == "unknown" else 0.02
        elif hurt:
            latency_s *= 60 * chance.random() + 1
        row: dict[str, Any] = dict.fromkeys(OPERATION_COLUMNS)
        completed = None if outcome == "unknown" and seq % 40 == 0 else at(due + latency_s)
        row |= {"seq": seq, "id": f"op-{seq}", "kind": kind, "key": f"k-{seq}", "subscriber": seq % 500}
        row |= {"intended_ns": at(due), "invoked_ns": at(due + 0.001), "completed_ns": completed}
        row |= {"attempts": 1, "outcome": outcome, "error": error if outcome != "ok" else None}
        rows.append(row)
    kinds = {"BIGINT": pa.int64(), "VARCHAR": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in OPERATION_COLUMNS.items()])
    return pa.Table.from_pylist(rows, schema=schema)


def expectation(text: str, answer: str = "pass", measured: float | None = None, **more: Any) -> Any:
    return ExpectationVerdict.model_validate({"text": text, "verdict": answer, "measured": measured} | more)


def pass_verdict() -> Verdict:
    return Verdict(
        name="db-primary-crash",
        verdict="pass",
        seed=42,
        runtime="process",
        toxiproxy="server 2.12.0",
        windows={
            "steady": WindowVerdict(start=0, end=10),
            "run": WindowVerdict(start=0, end=60),
            "fault": WindowVerdict(start=10, end=30),
            "recovery": WindowVerdict(start=30, end=33.4),
            "recovered": WindowVerdict(start=33.4, end=60),
        },
        recovery_s=3.4,
        expectations=(
            expectation("payments.success >= 99.9% in steady", measured=100, limit=99.9, unit="%"),
            expectation("payments.success >= 40% in fault", measured=53.387, limit=40, unit="%"),
            expectation("payments.p99 <= 500ms in recovered", measured=38.125, limit=500, unit="ms"),
            expectation("payments.recovery <= 35s", measured=3400, limit=35000, unit="ms"),
            expectation("invariants hold"),
        ),
        invariants=(
            InvariantVerdict(
                id="PAY1", title="No acknowledged payment is lost", verdict="pass", checked=2731
            ),
            InvariantVerdict(id="LED1", title="Each transaction sums to zero", verdict="pass", checked=6120),
            InvariantVerdict(id="NOT1", title="Every event is told in time", verdict="pass", checked=2731),
            InvariantVerdict(
                id="ROAM3",
                title="Settled once",
                verdict="not_applicable",
                reason="no settlement in this experiment",
            ),
        ),
        faults=(
            FaultVerdict.model_validate(
                {
                    "fault": "crash",
                    "on": ("db-primary",),
                    "at": 10.0,
                    "for": 20.0,
                    "proved": True,
                    "proof": PROOF,
                }
            ),
        ),
        impact={
            "payments_failed": 171.0,
            "payments_unknown": 340.0,
            "payments_unknown_minor": 171250.0,
            "payments_availability_percent": 81.27,
            "recovery_time_s": 3.4,
            "money_delay_minor_s": 5120.5,
            "acknowledged_writes_lost": 0.0,
            "compensation_minor": None,
        },
        impact_notes={
            **{
                f"payments_{key}": FigureNote(
                    title=f"Payments: {title.lower()}", unit=unit, group="functions", function="payments"
                )
                for key, (title, unit) in FUNCTION_FIGURES.items()
                if key in ("failed", "unknown", "unknown_minor", "availability_percent")
            },
            "recovery_time_s": OVERALL["recovery_time_s"],
            "money_delay_minor_s": OVERALL["money_delay_minor_s"],
            "compensation_minor": FigureNote(
                title="Compensation due",
                unit="minor",
                group="customers",
                model=True,
                reason="no tariff is set",
            ),
        },
        replay="ledgerquake run reports/r1/experiment.yaml --seed 42 --runtime process",
    )


def counter_example(number: int, text: str = "captured 500") -> Example:
    key = f"k-{1200 + number}"
    return Example(
        subject=key,
        row={
            "subject": key,
            "amount_minor": 500,
            "captures": 1,
            "credits": 0,
            "invoked_ns": at(14.2),
            "key": key,
        },
        timeline=(
            TimelineEntry(at_ns=at(14.2), source="operations", text=f"topup {key} invoked, 500 minor units"),
            TimelineEntry(at_ns=at(14.215), source="witness.psp", text=f"psp-a: capture, {text}"),
            TimelineEntry(at_ns=at(14.231), source="operations", text="ok, status 201, payment p-77"),
        ),
    )


def fail_verdict(text: str = "captured 500") -> Verdict:
    good = pass_verdict()
    broken = expectation(
        "payments.p99 <= 500ms in recovered",
        "fail",
        500.0004,
        limit=500,
        unit="ms",
        reason="over 1184 values",
    )
    never = expectation(
        "balance.p999 <= 2000ms in fault", "fail", None, limit=2000, unit="ms", reason="over 412 values"
    )
    hold = expectation("invariants hold", "fail", reason="fail: PAY1")
    lost = InvariantVerdict(
        id="PAY1",
        title="No acknowledged payment is lost",
        verdict="fail",
        checked=2731,
        violations=7,
        examples=tuple(counter_example(number, text) for number in range(3)),
    )
    return good.model_copy(
        update={
            "verdict": "fail",
            "mutant": "ack-before-commit",
            "expectations": (*good.expectations[:2], broken, never, hold),
            "invariants": (*good.invariants[1:], lost),
            "reasons": (
                "payments.p99 <= 500ms in recovered: broken, measured 500.0004 ms (over 1184 values)",
                "balance.p999 <= 2000ms in fault: broken (over 412 values)",
                "PAY1 No acknowledged payment is lost: 7 violations",
            ),
        }
    )


def inconclusive_verdict() -> Verdict:
    good = pass_verdict()
    unsaid = expectation(
        "payments.p99 <= 500ms in recovered",
        "inconclusive",
        limit=500,
        unit="ms",
        reason="only 3 operations were due in this window; 20 are needed",
    )
    fault = good.faults[0].model_copy(update={"proved": False, "proof": "the old process still answers"})
    idle = InvariantVerdict(
        id="NOT2", title="One delivery per event", verdict="inconclusive", reason="nothing to check"
    )
    return good.model_copy(
        update={
            "verdict": "inconclusive",
            "recovery_s": None,
            "expectations": (*good.expectations[:2], unsaid),
            "invariants": (*good.invariants, idle),
            "faults": (fault,),
            "reasons": ("f1-crash (crash on db-primary) is not proved: the old process still answers",),
        }
    )


def write_basics(folder: RunFolder, **timeline: Any) -> None:
    """What even an aborted run leaves: experiment, target, environment, timeline."""
    load = LoadSpec(rate_per_s=120, mix=KINDS)
    experiment = Experiment(
        name="db-primary-crash",
        title="The database primary dies while subscribers pay",
        target="billing",
        load=load,
        steady_s=10,
        recover_within_s=35,
        settle_within_s=30,
        expect=(InvariantsHold(text="invariants hold"),),
    )
    functions = {
        "payments": ("topup",),
        "balance": ("balance",),
        "usage": ("usage",),
        "roaming": ("roaming",),
    }
    folder.write_experiment("name: db-primary-crash\n", experiment)
    folder.copy_target(
        TargetSpec(
            name="billing", folder=".", services={}, links={}, functions=functions, entry="client->edge"
        )
    )
    folder.write_environment(
        Environment(
            run_id=folder.path.name,
            seed=42,
            runtime="process",
            toxiproxy="server 2.12.0",
            versions={"python": "3.11.9", "PostgreSQL": "18.6", "Patroni": "4.1.5", "NATS": "2.11.4"},
            machine={"system": "Linux 6.1", "cpus": 2, "memory_mib": 7962},
            user="qa",
            command="ledgerquake run experiments/db-primary-crash.yaml --set load.token=hunter2",
        )
    )
    times: dict[str, Any] = {
        "deploy_started_ns": at(-14),
        "ready_ns": at(-2),
        "load_started_ns": ZERO_NS,
        "steady_ended_ns": at(10),
        "first_injection_ns": at(10),
        "last_healing_ns": at(30),
        "load_ended_ns": at(60),
        "settled_ns": at(64.2),
        "collected_ns": at(65),
        "load": LoadSummary(scheduled=7200, sent=7200, recorded=7200, lag_p99_ms=3.2),
    }
    folder.write_timeline(Timeline.model_validate(times | timeline))


def fault_record(proved: bool = True, text: str = PROOF) -> FaultRecord:
    return FaultRecord(
        id="f1-crash",
        fault="crash",
        touches=("db-primary",),
        params={"service": "db-primary"},
        injected_ns=at(10),
        healed_ns=at(30),
        proof=Proof(
            proved=proved, text=text, observed={"pid_before": 4711, "gone_after_ms": 12.4, "leader": "db-2"}
        ),
    )


def write_evidence(folder: RunFolder, *, fault: FaultRecord, error: str = "connection reset by peer") -> None:
    """Operations, faults, jobs and logs."""
    folder.write_operations(operations(60, 120, error))
    folder.write_faults([fault])
    folder.write_jobs(
        [
            JobRecord(
                job="settlement", started_ns=at(15), ended_ns=at(38.5), attempts=9, done=True, answer="200"
            )
        ]
    )
    for name in ("db-1.log", "db-2.log", "payments.log", "load generator.log"):
        (folder.logs / name).write_text("started\n")


def make_pass(folder: RunFolder) -> None:
    write_basics(folder)
    write_evidence(folder, fault=fault_record())
    folder.write_verdict(pass_verdict())


def make_fail(folder: RunFolder) -> None:
    write_basics(folder)
    write_evidence(folder, fault=fault_record(), error=EVIL)
    folder.write_verdict(fail_verdict(EVIL))


def make_inconclusive(folder: RunFolder) -> None:
    death = Death(service="mediation", at_ns=at(41), exit_code=1, last_log=f"Traceback\nValueError: {EVIL}")
    write_basics(folder, deaths=(death,), settled_ns=None, settle_pending={"outboxes": 12})
    write_evidence(folder, fault=fault_record(False, "the old process still answers"))
    folder.write_verdict(inconclusive_verdict())


def make_aborted(folder: RunFolder) -> None:
    """Stopped by a person in the middle: no operations, no faults, no verdict."""
    write_basics(
        folder,
        aborted="interrupted by SIGINT",
        load_ended_ns=None,
        settled_ns=None,
        collected_ns=None,
        load=None,
    )


KINDS_OF_RUN: dict[str, Callable[[RunFolder], None]] = {
    "pass": make_pass,
    "fail": make_fail,
    "inconclusive": make_inconclusive,
    "aborted": make_aborted,
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per kind of run; not to be changed by a test."""
    reports = tmp_path_factory.mktemp("reports")
    for kind, make in KINDS_OF_RUN.items():
        make(RunFolder.create(reports, f"r-{kind}"))
    return {kind: reports / f"r-{kind}" for kind in KINDS_OF_RUN}


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[[str], RunFolder]:
    """A folder of one's own, of a given kind."""

    def make(kind: str) -> RunFolder:
        folder = RunFolder.create(tmp_path, f"r-{kind}")
        KINDS_OF_RUN[kind](folder)
        return folder

    return make
