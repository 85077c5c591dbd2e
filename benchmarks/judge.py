"""How long the judge takes over a million operations, all invariants on, beside a bare scan.

The peer is DuckDB itself, in the same process and the same run: reading every column of the same files
once, and nothing else. Evidence is synthetic and legal, so that no query stops early and every
invariant has its full work; it is made once, outside of the measured time. ``python -m benchmarks.judge``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from harness.check.judge import judge
from harness.evidence.folder import RunFolder
from harness.evidence.model import (
    Environment,
    FaultRecord,
    JobRecord,
    LoadSummary,
    Proof,
    Sample,
    Timeline,
)
from harness.evidence.views import MEMORY_LIMIT, THREADS
from harness.experiment.model import Experiment, FaultSpec, InvariantsHold, JobSpec, LoadSpec, Objective
from harness.target.folder import load_target
from tests.histories.history import schema_columns

OPERATIONS = 1_000_000
ROUNDS = 3
BILLING = Path(__file__).parents[1] / "targets" / "billing"
START_NS = 1_767_225_600_000_000_000
_TYPES = {"bigint": "bigint", "int": "bigint", "timestamptz": "timestamptz", "boolean": "boolean"}
SECTIONS = Path(__file__).with_name("judge_evidence.sql")


def make_evidence(folder: RunFolder, operations: int) -> None:
    """A legal run of that many operations."""
    facts = {
        "n": operations,
        "start": START_NS,
        "maintenance": operations * 99 // 100,
        "reopened": operations * 9995 // 10000,
        "settled": operations // 2,
    }
    columns = schema_columns()
    prepare, *files = SECTIONS.read_text(encoding="utf-8").format(**facts).split("\n--- ")[1:]
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(prepare.partition("\n")[2])
        written = {name: query for name, _, query in (section.partition("\n") for section in files)}
        tables = {f"sql/{table}.parquet": columns[table] for table in _tables()}
        for name in tables.keys() | written.keys():
            query = written.get(name)
            if name in tables:
                query = _whole(connection, query, tables[name])
            connection.execute(f"copy ({query}) to '{folder.evidence / name}'")
    (folder.witness / "psp-b.jsonl").write_text("")
    _write_facts(folder, operations)


def _tables() -> tuple[str, ...]:
    """The evidence that the target names."""
    sql = load_target(BILLING).sql
    assert sql is not None
    return tuple(sql.tables)


def _whole(connection: duckdb.DuckDBPyConnection, query: str | None, columns: dict[str, str]) -> str:
    """``query`` with all columns of its table: those it does not give are null. None: an empty table."""
    if query is None:
        query = f"select null as {next(iter(columns))} where false"
    given = {name for name, *_ in connection.execute(f"describe {query}").fetchall()}
    if unknown := given - columns.keys():
        raise RuntimeError(f"the schema has no columns {unknown}")
    chosen = [f"{name if name in given else 'null'}::{_TYPES.get(kind, 'varchar')} as {name}"
              for name, kind in columns.items()]  # fmt: skip
    return f"select {', '.join(chosen)} from ({query})"


def _write_facts(folder: RunFolder, operations: int) -> None:
    def instant(share: float) -> int:
        return START_NS + int(share * operations) * 1_000_000

    kinds = ("topup", "topup_replay", "balance", "charge", "usage", "roaming")
    expect = (
        InvariantsHold(text="invariants hold"),
        Objective(text="p99", subject="payments", metric="p99", op="<=", limit=500, window="recovered"),
    )
    experiment = Experiment(
        name="benchmark", title="A million operations", target="billing", steady_s=operations / 2500,
        recover_within_s=60, settle_within_s=60, expect=expect, jobs=(JobSpec(at_s=0, run="settlement"),),
        faults=(FaultSpec(fault="crash", at_s=0), FaultSpec(fault="maintenance", at_s=0)),
        load=LoadSpec(rate_per_s=1000, mix=dict.fromkeys(kinds, 1.0)),
    )  # fmt: skip
    folder.write_experiment("name: benchmark\n", experiment)
    folder.copy_target(load_target(BILLING))
    folder.write_environment(Environment(run_id="benchmark", seed=1, runtime="none", toxiproxy="none"))
    proof = Proof(proved=True, text="synthetic")
    marks = {"crash": (0.4, 0.42), "maintenance": (0.985, 0.9995)}
    folder.write_faults(
        [
            FaultRecord(id=name, fault=name, touches=("payments",), params={}, injected_ns=instant(start),
                        healed_ns=instant(end), proof=proof)
            for name, (start, end) in marks.items()
        ]
    )  # fmt: skip
    folder.write_jobs(
        [JobRecord(job="settlement", started_ns=instant(0.5), ended_ns=1, attempts=1, done=True)]
    )
    _write_samples(folder, [instant(second * 1000 / operations) for second in range(operations // 1000 + 1)])
    load = LoadSummary(scheduled=operations, sent=operations, recorded=operations, lag_p99_ms=1)
    folder.write_timeline(
        Timeline(deploy_started_ns=START_NS, ready_ns=START_NS, load_started_ns=START_NS,
                 steady_ended_ns=instant(0.4),
                 first_injection_ns=instant(0.4), last_healing_ns=instant(0.42), load_ended_ns=instant(1),
                 settled_ns=instant(1), load=load)
    )  # fmt: skip


def _write_samples(folder: RunFolder, instants: list[int]) -> None:
    """Green until maintenance begins, and one leader: asked each second."""
    maintenance_ns = instants[len(instants) * 99 // 100]
    samples = folder.open_samples()
    for at_ns in instants:
        overall = json.dumps({"overall": "green" if at_ns < maintenance_ns else "maintenance"})
        samples.append(Sample(at_ns=at_ns, name="status", subject="edge", value=200, text=overall))
        for node, value, role in (("db-1", 200, "primary"), ("db-2", 503, "replica")):
            answer = json.dumps({"role": role, "timeline": 1})
            samples.append(
                Sample(at_ns=at_ns, name="role:db-primary", subject=node, value=value, text=answer)
            )
    samples.close()


def scan(folder: RunFolder) -> float:
    """Seconds in which DuckDB reads every column of all evidence once."""
    started = time.perf_counter()
    with duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute("set timezone = 'UTC'")
        for file in folder.evidence.rglob("*.parquet"):
            connection.execute(f"select bit_xor(hash(t)) from read_parquet('{file}') t").fetchall()
        for file in folder.witness.glob("*.jsonl"):
            connection.execute(f"select bit_xor(hash(t)) from read_ndjson('{file}') t").fetchall()
    return time.perf_counter() - started


def measure(operations: int = OPERATIONS) -> dict[str, Any]:
    """Seconds of the judge and of the bare scan (best of some rounds), and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder.create(Path(scratch), "benchmark")
        make_evidence(folder, operations)
        judged, scanned = [], []
        for _ in range(ROUNDS):
            scanned.append(scan(folder))
            started = time.perf_counter()
            verdict = judge(folder)
            judged.append(time.perf_counter() - started)
        wrong = [i.id for i in verdict.invariants if i.verdict not in ("pass", "not_applicable")]
        if wrong:
            raise RuntimeError(f"the synthetic run must be legal; not so by {wrong}: {verdict.reasons}")
    return {
        "operations": operations,
        "invariants": sum(i.checked > 0 for i in verdict.invariants),
        "judge_s": round(min(judged), 2),
        "scan_s": round(min(scanned), 2),
        "ratio_to_scan": round(min(judged) / min(scanned), 2),
        "aim_s": 5.0,
    }


if __name__ == "__main__":
    print(json.dumps(measure(*(int(argument) for argument in sys.argv[1:2])), indent=2))
