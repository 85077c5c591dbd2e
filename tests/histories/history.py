"""Histories as data: a base, edits of it, and a run folder made of the result.

An edit is one of::

    {insert: table, row: {...}}                       {delete: table, where: {...}}
    {update: table, where: {...}, set: {...}}         {copy: table, where: {...}, set: {...}}
    {series: table, from: 0, to: 5, every: 0.5, row: {...}}       ``{n}`` in a text counts from 1

``where`` must match a row: an edit that changes nothing would test nothing. Columns and types of the
system's tables are read from its schema, so a history cannot drift from it.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from harness.evidence.folder import RunFolder
from harness.evidence.model import OPERATION_COLUMNS, FaultRecord, JobRecord, Proof, Sample, Timeline
from harness.evidence.views import add_table, open_evidence
from harness.experiment.model import Experiment, InvariantsHold, LoadSpec
from harness.experiment.target import TargetSpec
from harness.target.folder import load_target

HERE = Path(__file__).parent
BILLING = HERE.parents[1] / "targets" / "billing"
START_NS = 1_767_225_600_000_000_000
INSTANT = pa.timestamp("us", tz="UTC")
TYPES = {"bigint": pa.int64(), "int": pa.int64(), "timestamptz": INSTANT}
Row = dict[str, Any]
Settings = dict[str, dict[str, str]]
History = dict[str, Any]


@functools.cache
def _base_text() -> str:
    """``base.yaml``, with what the files in ``base/`` add to its lists; the ledger in order of time."""
    history = yaml.safe_load((HERE / "base.yaml").read_text(encoding="utf-8"))
    for file in sorted((HERE / "base").glob("*.yaml")):
        more = yaml.safe_load(file.read_text(encoding="utf-8"))
        for table, rows in more.pop("tables", {}).items():
            history["tables"].setdefault(table, []).extend(rows)
        for name, rows in more.items():
            history[name].extend(rows)
    history["ledger"].sort(key=lambda entry: entry["at"])
    return json.dumps(history)


def base() -> History:
    """The legal history, the ledger and the series spelled out; the caller may change it."""
    history: History = json.loads(_base_text())
    history["tables"] |= _spell_out(history.pop("ledger"))
    history["tables"].setdefault("samples", [])
    for series in history.pop("series"):
        _edit_one(history["tables"], {"series": series.pop("table"), **series})
    return history


def _spell_out(ledger: list[Row]) -> dict[str, list[Row]]:
    balances: dict[str, int] = defaultdict(int)
    versions: dict[str, int] = defaultdict(int)
    transactions, postings = [], []
    for entry in ledger:
        head = {name: entry[name] for name in ("id", "kind", "key")}
        reference = entry.get("reference", entry["key"])
        transactions.append(
            {**head, "reference": reference, "epoch": entry.get("epoch"), "created_at": entry["at"]}
        )
        for account, amount in entry["legs"].items():
            balances[account] += amount
            versions[account] += 1
            postings.append(
                {"id": len(postings) + 1, "transaction_id": entry["id"], "account_id": account,
                 "amount_minor": amount,
                 "balance_after_minor": balances[account], "account_version": versions[account],
                 "created_at": entry["at"]}
            )  # fmt: skip
    accounts = [
        {"id": name, "currency": _currency(name), "balance_minor": balances[name], "version": versions[name]}
        for name in balances
    ]
    return {"charging.transaction": transactions, "charging.posting": postings, "charging.account": accounts}


def _currency(account: str) -> str:
    return "USD" if account.startswith("partner:beta:") or account.endswith(":usd") else "EUR"


def edited(edits: list[Row]) -> History:
    """The base with some edits."""
    history = base()
    for edit in edits:
        name = next(
            value for key, value in edit.items() if key in ("insert", "delete", "update", "copy", "series")
        )
        if name in ("timeline", "windows"):
            history[name] |= edit["set"]
        elif name in ("faults", "jobs", "recovery", "pending"):
            _edit_one(history, {**edit})
        else:
            _edit_one(history["tables"], edit)
    return history


def _edit_one(tables: dict[str, list[Row]], edit: Row) -> None:
    edit = copy.deepcopy(edit)
    if "insert" in edit:
        tables.setdefault(edit["insert"], []).append(edit["row"])
        return
    if "series" in edit:
        at, number = edit["from"], 1
        while at < edit["to"]:
            time = {"at": [at, at + 0.01]} if edit["series"] == "operations" else {"at_ns": at}
            tables.setdefault(edit["series"], []).append({**_numbered(edit["row"], number), **time})
            at, number = at + edit["every"], number + 1
        return
    action = next(name for name in ("delete", "update", "copy") if name in edit)
    rows = tables[edit[action]]
    where = edit.get("where", {})
    hits = [row for row in rows if all(_equal(row.get(name), value) for name, value in where.items())]
    assert hits, f"{action} {edit[action]}: no row has {where}"
    if action == "delete":
        tables[edit[action]] = [row for row in rows if row not in hits]
    elif action == "update":
        for row in hits:
            row |= edit["set"]
    else:
        rows.extend({**row, **edit.get("set", {})} for row in hits)


def _numbered(row: Row, number: int) -> Row:
    """With ``{n}`` in its texts replaced."""
    return {k: v.replace("{n}", str(number)) if isinstance(v, str) else v for k, v in row.items()}


def _equal(found: Any, wanted: Any) -> bool:
    """Equal, or within a range ``{from, to}``."""
    if isinstance(wanted, dict) and set(wanted) == {"from", "to"}:
        return found is not None and bool(wanted["from"] <= found < wanted["to"])
    return bool(found == wanted)


# --- to a run folder ----------------------------------------------------------------------------
@functools.cache
def schema_columns() -> dict[str, dict[str, str]]:
    """Columns and PostgreSQL types of all tables, from the target's schema files."""
    text = "\n".join(file.read_text() for file in sorted((BILLING / "infra" / "schema").glob("*.sql")))
    services = re.findall(r"'(\w+)'", re.findall(r"array\[(.*?)\]", text)[0])
    tables: dict[str, dict[str, str]] = {}
    for name, body in re.findall(r"create table ([\w.%$]+) \((.*?)\);", text, re.S):
        columns = dict(
            re.findall(r"^\s+(\w+) (uuid|text|bigint|int|jsonb|boolean|timestamptz)\b", body, re.M)
        )
        for service in services if name.startswith("%1$I") else [""]:
            tables[name.replace("%1$I", service)] = columns
    return tables


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else START_NS + round(seconds * 1e9)


def _instants(row: Row) -> Row:
    return {name: _ns(value) if name.endswith("_ns") else value for name, value in row.items()}


def _instants_told(detail: Row) -> Row:
    """With the instants of a detail, and of the records in it, as the client writes them."""
    told = dict(detail)
    for name in ("as_of", "started_at"):
        if name in told:
            told[name] = datetime.fromtimestamp(((_ns(told[name]) or 0) // 1000) / 1e6, UTC).isoformat()
    if "records" in told:
        told["records"] = [_instants_told(record) for record in told["records"]]
    return told


def operation_rows(rows: list[Row]) -> list[Row]:
    """With what every operation has."""
    out = []
    for seq, row in enumerate(rows, 1):
        invoked, completed = row["at"]
        detail = row.get("detail")
        if isinstance(detail, dict):
            detail = _instants_told(detail)
        full = {"seq": seq, "id": f"o-{seq}", "attempts": 1, **{k: v for k, v in row.items() if k != "at"}}
        full |= {"intended_ns": _ns(invoked), "invoked_ns": _ns(invoked), "completed_ns": _ns(completed)}
        out.append({**full, "detail": json.dumps(detail) if isinstance(detail, dict) else detail})
    return out


@functools.cache
def target_spec() -> TargetSpec:
    """The billing target, as a run would have it."""
    return load_target(BILLING)


def experiment(settings: Settings | None = None) -> Experiment:
    kinds = target_spec().operation_kinds
    return Experiment(
        name="history", title="A recorded history", target="billing", steady_s=10, recover_within_s=10,
        settle_within_s=20, expect=(InvariantsHold(text="invariants hold"),),
        load=LoadSpec(rate_per_s=1, mix=dict.fromkeys(kinds, 1.0)), settings=settings or {},
    )  # fmt: skip


def write_folder(history: History, path: Path, settings: Settings | None = None) -> RunFolder:
    """The evidence of a history as a run folder; ``settings`` of its experiment, by service and variable."""
    folder = RunFolder.create(path, "run")
    folder.write_experiment("name: history\n", experiment(settings))
    folder.copy_target(target_spec())
    tables = history["tables"]
    timeline = _instants(history["timeline"])
    pending = {row["name"]: row["count"] for row in history.get("pending", [])}
    folder.write_timeline(Timeline(**timeline, settle_pending=pending))
    proof = Proof(proved=True, text="seen")
    folder.write_faults(
        [FaultRecord(**{"params": {}, "proof": proof, **_instants(row)}) for row in history["faults"]]
    )
    folder.write_jobs([JobRecord(**_instants(row)) for row in history["jobs"]])
    types = {"BIGINT": pa.int64(), "VARCHAR": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in OPERATION_COLUMNS.items()])
    folder.write_operations(pa.Table.from_pylist(operation_rows(tables["operations"]), schema))
    _write_samples(folder, tables["samples"])
    sql = target_spec().sql
    assert sql is not None
    for name in sql.tables:
        _write_table(folder, name, schema_columns()[name], tables.get(name, []))
    _write_logs(folder, tables)
    return folder


def _write_samples(folder: RunFolder, rows: list[Row]) -> None:
    log = folder.open_samples()
    for row in rows:
        text = row.get("text", "")
        log.append(Sample(**{**_instants(row), "text": json.dumps(text) if isinstance(text, dict) else text}))
    log.close()


def _write_table(folder: RunFolder, name: str, columns: dict[str, str], rows: list[Row]) -> None:
    unknown = {column for row in rows for column in row} - set(columns)
    assert not unknown, f"{name} has no columns {unknown}"
    schema = pa.schema([(column, TYPES.get(kind, pa.string())) for column, kind in columns.items()])
    full = []
    for row in rows:
        values = {c: json.dumps(v) if isinstance(v, dict) else v for c, v in row.items()}
        for column, kind in columns.items():
            if kind == "timestamptz" and values.get(column) is not None:
                values[column] = (_ns(values[column]) or 0) // 1000
        full.append(values)
    integers = pa.schema([(f.name, pa.int64() if f.type == INSTANT else f.type) for f in schema])
    pq.write_table(pa.Table.from_pylist(full, integers).cast(schema), folder.sql / f"{name}.parquet")


def _write_logs(folder: RunFolder, tables: dict[str, list[Row]]) -> None:
    for log in target_spec().witness_logs:
        rows = tables[f"witness.{log.table}"]
        mine = [row for row in rows if row.get("witness", log.service) == log.service]
        lines = [
            json.dumps({"seq": seq, "witness": log.service, **_instants(row)}) + "\n"
            for seq, row in enumerate(mine, 1)
        ]
        (folder.witness / f"{log.service}.jsonl").write_text("".join(lines))


def evidence(history: History, path: Path, settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """The evidence as the judge sees it, with the history's own windows and recovery.

    ``settings``: what the experiment set, by service and variable.
    """
    connection = open_evidence(write_folder(history, path, settings), threads=1)
    windows = [(name, _ns(start), _ns(end)) for name, (start, end) in history["windows"].items()]
    add_table(connection, "windows", {"name": "VARCHAR", "start_ns": "BIGINT", "end_ns": "BIGINT"}, windows)
    rows = [(row["function"], _ns(row["recovered_ns"]), row["judged"]) for row in history["recovery"]]
    add_table(
        connection, "recovery", {"function": "VARCHAR", "recovered_ns": "BIGINT", "judged": "BOOLEAN"}, rows
    )
    return connection
