"""A run folder as tables: one DuckDB connection in memory, with all of the evidence in it.

    operations                       one row per logical operation, OPERATION_COLUMNS, and ``counted_ns``:
                                     the instant by which it belongs to a phase of the run
    faults                           id, fault, touches (list), params, injected_ns, healed_ns, proved,
                                     proof (text), error
    jobs, samples                    as recorded
    timeline                         one row: the instants of the Timeline
    pending, deaths                  what had not drained; what ended uninvited
    experiment                       one row: name, steady_s, recover_within_s, recovered_s, settle_within_s
    functions                        function, kind
    prices                           name, value: the target's prices and rules for the business figures
    settings                         service, name, value: the services' environment, as the experiment set it
    <schema>.<table>                 the system's final state; each timestamptz column x has an x_ns beside it
    witness.<table>                  the witnesses' logs, several logs of one table united

``ns(timestamptz)`` turns an instant into epoch nanoseconds. Invariants are other people's SQL: once
the evidence is there, no file but the evidence and no network can be reached, nothing can be
written, and no setting changed. What is not in the folder is simply not there; a query that asks
for it fails with its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.evidence.model import Timeline
from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec, WitnessLog

THREADS = 2
MEMORY_LIMIT = "4GB"
LOG_COLUMNS = {"seq": "BIGINT", "at_ns": "BIGINT", "witness": "VARCHAR", "event": "VARCHAR"}
INTEGERS = frozenset({"UBIGINT", "BIGINT", "HUGEINT"})

FAULTS_VIEW = """
create view faults as
select id, fault, touches::varchar[] as touches, params, injected_ns, healed_ns,
       (proof->>'proved')::boolean as proved, proof->>'text' as proof, error
from read_parquet({file})
"""


def open_evidence(
    folder: RunFolder, *, threads: int = THREADS, memory_limit: str = MEMORY_LIMIT
) -> duckdb.DuckDBPyConnection:
    """All evidence of a run as tables, closed to the outside. The caller closes the connection.

    Raises InputError when the folder's JSON files or a table cannot be read.
    """
    connection = duckdb.connect(
        config={"threads": threads, "memory_limit": memory_limit, "temp_directory": ""}
    )
    try:
        _load(connection, folder)
        _lock(connection, folder)
    except duckdb.Error as error:
        connection.close()
        raise InputError(f"the evidence in {folder.path} cannot be opened: {error}") from error
    return connection


def _load(connection: duckdb.DuckDBPyConnection, folder: RunFolder) -> None:
    connection.execute("set timezone = 'UTC'")
    connection.execute("set preserve_insertion_order = false")
    connection.execute("create macro ns(instant) as epoch_ns(instant::timestamptz)")
    spec = folder.read_target()
    timeline = folder.read_timeline()
    _operations(connection, folder, timeline)
    for name in ("jobs", "samples"):
        _view(connection, name, folder.evidence / f"{name}.parquet")
    if (faults := folder.evidence / "faults.parquet").is_file():
        connection.execute(FAULTS_VIEW.format(file=_quoted(faults)))
    _facts(connection, folder.read_experiment(), spec)
    _happenings(connection, timeline)
    _final_state(connection, folder)
    _witness_logs(connection, folder, spec)


def _lock(connection: duckdb.DuckDBPyConnection, folder: RunFolder) -> None:
    files = sorted(str(path) for path in folder.evidence.rglob("*.parquet"))
    connection.execute(f"set allowed_paths = [{', '.join(map(_quoted, files))}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


def add_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: dict[str, str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """A small table of facts, in memory."""
    connection.execute(f"create table {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
    if rows := list(rows):
        connection.executemany(f"insert into {name} values ({', '.join('?' * len(columns))})", rows)


def _view(connection: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
    """A Parquet file under a name, with ``x_ns`` beside each instant ``x``. No file: no view."""
    if not file.is_file():
        return
    source = f"read_parquet({_quoted(file)})"
    columns = connection.execute(f"describe select * from {source}").fetchall()
    instants = [column[0] for column in columns if column[1] == "TIMESTAMP WITH TIME ZONE"]
    also = "".join(f', epoch_ns("{column}") as "{column}_ns"' for column in instants)
    connection.execute(f"create view {name} as select *{also} from {source}")


def counted_at(first_injection_ns: int | None) -> str:
    """The instant by which an operation counts, as SQL over its row.

    It is its intended time; one that the first fault met under way counts as met. Else the last operations
    before a fault, which it may well have broken, would be held against steady.
    """
    if first_injection_ns is None:
        return "intended_ns"
    met = f"intended_ns < {first_injection_ns} and coalesce(completed_ns > {first_injection_ns}, true)"
    return f"if({met}, {first_injection_ns}, intended_ns)"


def add_functions(connection: duckdb.DuckDBPyConnection, functions: Mapping[str, Sequence[str]]) -> None:
    """The table ``functions``: which kinds of operations each of them is made of."""
    kinds = [(function, kind) for function, kinds in functions.items() for kind in kinds]
    add_table(connection, "functions", {"function": "VARCHAR", "kind": "VARCHAR"}, kinds)


def _operations(connection: duckdb.DuckDBPyConnection, folder: RunFolder, timeline: Timeline) -> None:
    file = folder.operations
    if not file.is_file():
        return
    counted = counted_at(timeline.first_injection_ns)
    source = f"read_parquet({_quoted(file)})"
    known = {row[0] for row in connection.execute(f"describe select * from {source}").fetchall()}
    older = "" if "queued_ns" in known else ", 0 as queued_ns"
    connection.execute(f"create view operations as select *{older}, {counted} as counted_ns from {source}")


def _facts(connection: duckdb.DuckDBPyConnection, experiment: Experiment, spec: TargetSpec) -> None:
    facts = ("name", "steady_s", "recover_within_s", "recovered_s", "settle_within_s")
    columns = {fact: "VARCHAR" if fact == "name" else "DOUBLE" for fact in facts}
    add_table(connection, "experiment", columns, [[getattr(experiment, fact) for fact in facts]])
    add_functions(connection, spec.functions)
    add_table(connection, "prices", {"name": "VARCHAR", "value": "DOUBLE"}, spec.impact.items())
    settings = [
        (service.name, name, value)
        for service in spec.services.values()
        for name, value in {**service.environment, **experiment.settings.get(service.name, {})}.items()
    ]
    add_table(connection, "settings", dict.fromkeys(("service", "name", "value"), "VARCHAR"), settings)


def _happenings(connection: duckdb.DuckDBPyConnection, timeline: Timeline) -> None:
    instants = [name for name in Timeline.model_fields if name.endswith("_ns")]
    row = [getattr(timeline, name) for name in instants]
    add_table(connection, "timeline", dict.fromkeys(instants, "BIGINT"), [row])
    columns = {"name": "VARCHAR", "count": "BIGINT"}
    add_table(connection, "pending", columns, timeline.settle_pending.items())
    columns = {"service": "VARCHAR", "at_ns": "BIGINT", "exit_code": "BIGINT"}
    add_table(connection, "deaths", columns, [(d.service, d.at_ns, d.exit_code) for d in timeline.deaths])


def _final_state(connection: duckdb.DuckDBPyConnection, folder: RunFolder) -> None:
    for file in sorted(folder.sql.glob("*.parquet")):
        schema, _, table = file.stem.partition(".")
        connection.execute(f'create schema if not exists "{schema}"')
        _view(connection, f'"{schema}"."{table}"', file)


# --- witness logs -------------------------------------------------------------------------------
def _witness_logs(connection: duckdb.DuckDBPyConnection, folder: RunFolder, spec: TargetSpec) -> None:
    connection.execute("create schema witness")
    for table in dict.fromkeys(log.table for log in spec.witness_logs):
        logs = [log for log in spec.witness_logs if log.table == table]
        files = [folder.witness / f"{log.service}.jsonl" for log in logs]
        if all(file.is_file() for file in files):  # half of the logs would be a false witness
            _log_table(connection, table, logs, files)


def _log_table(
    connection: duckdb.DuckDBPyConnection, table: str, logs: list[WitnessLog], files: list[Path]
) -> None:
    """JSON lines as one table in memory: they are read once, and asked often."""
    columns = dict(LOG_COLUMNS)
    for log in logs:
        columns |= log.columns
    source = f"[{', '.join(_quoted(file) for file in files)}]"
    if not all(log.columns for log in logs):
        found = connection.execute(
            f"select json_group_structure(json) from read_ndjson_objects({source})"
        ).fetchone()
        structure = json.loads(found[0]) if found and found[0] else {}
        columns |= {name: _duckdb_type(kind) for name, kind in structure.items() if name not in columns}
    types = ", ".join(f"{_quoted(name)}: {_quoted(kind)}" for name, kind in columns.items())
    connection.execute(
        f'create table witness."{table}" as select * from read_ndjson({source}, columns = {{{types}}})'
    )


def _duckdb_type(kind: Any) -> str:
    """The column type for what the values are. Text stays text, whatever it looks like."""
    if not isinstance(kind, str):
        return "JSON"
    return "BIGINT" if kind in INTEGERS else kind if kind in ("DOUBLE", "BOOLEAN") else "VARCHAR"


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
