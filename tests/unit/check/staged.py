"""A whole run, made of the legal history: busy enough that objectives have something to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, LoadSummary
from harness.experiment.model import Expectation, Experiment, FaultSpec, InvariantsHold, JobSpec, Objective
from tests.histories.history import History, base, edited, experiment, write_folder

LOAD = LoadSummary(scheduled=1000, sent=1000, recorded=1000, lag_p99_ms=3)
QUIET = 4000  # a subscriber that the base knows nothing of
OPENING = 100_000
READ = {"kind": "balance", "subscriber": QUIET, "outcome": "ok", "status": 200, "result": OPENING,
        "detail": {"read": "primary", "version": 1}}  # fmt: skip
EVERY = InvariantsHold(text="invariants hold")
HOLD = InvariantsHold(text="invariants [!A]* hold", patterns=("[!A]*",))  # AV1 wants more traffic


def _opening() -> list[dict[str, Any]]:
    """The subscriber to whom nothing ever happens: whoever reads that balance reads the same."""
    equity = next(row for row in base()["tables"]["charging.account"] if row["id"] == "opening:equity")
    after = {"balance_minor": equity["balance_minor"] - OPENING, "version": equity["version"] + 1}
    mine = {"balance_minor": OPENING, "version": 1}
    legs = ((f"sub:{QUIET}:main", OPENING, mine), ("opening:equity", -OPENING, after))
    postings = [
        {"id": 9000 + number, "transaction_id": "t-quiet", "account_id": account, "amount_minor": amount,
         "balance_after_minor": then["balance_minor"], "account_version": then["version"], "created_at": -10}
        for number, (account, amount, then) in enumerate(legs)
    ]  # fmt: skip
    reference = f"sub:{QUIET}"
    head = {"id": "t-quiet", "kind": "opening", "key": reference, "reference": reference, "created_at": -10}
    return [
        {"insert": "charging.transaction", "row": head},
        *({"insert": "charging.posting", "row": posting} for posting in postings),
        {"insert": "charging.account", "row": {"id": f"sub:{QUIET}:main", "currency": "EUR", **mine}},
        {"update": "charging.account", "where": {"id": "opening:equity"}, "set": after},
    ]


def reads(
    start: float,
    end: float,
    *,
    every: float = 0.1,
    late_s: float = 0.0,
    takes_s: float = 0.01,
    **changes: Any,
) -> dict[str, Any]:
    """Balance reads of the quiet subscriber all along, as an edit. ``changes`` are their columns.

    ``late_s``: the generator begins them so long after their time; ``takes_s`` counts from then.
    """
    detail = {**READ["detail"], "late_s": late_s, "takes_s": takes_s}
    row = {**READ, "detail": detail, **changes}
    return {"series": "operations", "from": start, "to": end, "every": every, "row": row}


def _begin_late(folder: RunFolder) -> None:
    """Histories know no lateness: it stands in ``detail`` until here. No attempts: it never began."""
    with duckdb.connect() as connection:
        instant = "{} + coalesce((1e9 * (detail->>'{}')::double)::bigint, {})"
        begun = instant.format("intended_ns", "late_s", "invoked_ns - intended_ns")
        ended = instant.format("invoked_ns", "takes_s", "completed_ns - invoked_ns")
        rows = connection.sql(
            f"""
            select * replace ({ended} as completed_ns) from
            (select * replace (if(attempts = 0, null, {begun}) as invoked_ns) from '{folder.operations}')
            """
        ).to_arrow_table()
    folder.write_operations(rows)


def of(*edits: dict[str, Any]) -> History:
    """The legal history with the quiet subscriber, and edits."""
    return edited([*_opening(), *edits])


def objective(text: str, limit: float, window: Any = "run", op: Any = ">=") -> Objective:
    subject, _, metric = text.rpartition(".")
    return Objective(text=text, subject=subject, metric=metric, op=op, limit=limit, window=window)


def stage(
    path: Path,
    *,
    expect: tuple[Expectation, ...] = (HOLD,),
    history: History | None = None,
    load: LoadSummary | None = LOAD,
    **timeline: Any,
) -> RunFolder:
    """The legal history as a whole run; busy enough that objectives have something to say."""
    folder = write_folder(history or of(reads(0, 50)), path)
    _begin_late(folder)
    faults = tuple(FaultSpec(fault=record.fault, at_s=0) for record in folder.read_faults())
    jobs = tuple(JobSpec(at_s=0, run=record.job) for record in folder.read_jobs())
    asked: Experiment = experiment().model_copy(update={"faults": faults, "jobs": jobs, "expect": expect})
    folder.write_experiment("name: history\n", asked)
    folder.write_environment(Environment(run_id="run", seed=7, runtime="process", toxiproxy="builtin"))
    changes = {"load": load, **timeline}
    folder.write_timeline(folder.read_timeline().model_copy(update=changes))
    return folder
