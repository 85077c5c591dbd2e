"""A whole run, made of the legal history: busy enough that objectives have something to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, LoadSummary
from harness.experiment.model import Expectation, Experiment, FaultSpec, InvariantsHold, JobSpec, Objective
from tests.histories.history import History, edited, experiment, write_folder

LOAD = LoadSummary(scheduled=1000, sent=1000, recorded=1000, lag_p99_ms=3)
READ = {"kind": "balance", "subscriber": 4, "outcome": "ok", "status": 200, "result": 100000,
        "detail": {"read": "primary", "version": 1}}  # fmt: skip
EVERY = InvariantsHold(text="invariants hold")
HOLD = InvariantsHold(text="invariants [!A]* hold", patterns=("[!A]*",))  # AV1 wants more traffic
LEGS = {"sub:4:main": (100_000, 100_000, 1), "opening:equity": (-100_000, -400_000, 4)}


def _opening() -> list[dict[str, Any]]:
    """Subscriber 4, to whom nothing ever happens: whoever reads that balance reads the same."""
    postings = [
        {"id": 900 + version, "transaction_id": "t90", "account_id": account, "amount_minor": amount,
         "balance_after_minor": after, "account_version": version, "created_at": -10}
        for account, (amount, after, version) in LEGS.items()
    ]  # fmt: skip
    head = {"id": "t90", "kind": "opening", "key": "sub:4", "reference": "sub:4", "created_at": -10}
    account = {"id": "sub:4:main", "balance_minor": 100_000, "version": 1}
    equity = {"balance_minor": -400_000, "version": 4}
    return [
        {"insert": "charging.transaction", "row": head},
        *({"insert": "charging.posting", "row": posting} for posting in postings),
        {"insert": "charging.account", "row": account},
        {"update": "charging.account", "where": {"id": "opening:equity"}, "set": equity},
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
    """Balance reads of subscriber 4 all along, as an edit. ``changes`` are their columns.

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
    """The legal history with subscriber 4, and edits."""
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
    faults = (FaultSpec(fault="crash", at_s=0), FaultSpec(fault="maintenance", at_s=17))
    jobs = (JobSpec(at_s=10, run="settlement"), JobSpec(at_s=6, run="tap-in"))
    asked: Experiment = experiment().model_copy(update={"faults": faults, "jobs": jobs, "expect": expect})
    folder.write_experiment("name: history\n", asked)
    folder.write_environment(Environment(run_id="run", seed=7, runtime="process", toxiproxy="builtin"))
    changes = {"load": load, **timeline}
    folder.write_timeline(folder.read_timeline().model_copy(update=changes))
    return folder
