"""The story of a counter-example: all that the evidence knows of one subject, in the order of time.

Works on any target: it looks for the subject in every text column of every table, then, once more,
for the names that the found rows call it by (a payment id, an event id). A name that a whole crowd of
rows shares (an account, a partner) is not the subject's own and is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from harness.check.verdict import TimelineEntry
from harness.evidence.model import FaultRecord

NAMES = re.compile(r"(^|_)(id|key|reference|ref)$")
DOCUMENTS = frozenset({"payload"})  # columns of JSON text, in which a name may stand anywhere
CROWD = 20  # rows of one table
MOST_ENTRIES = 60
MOST_TEXT = 200
HOPS = 2
NOT_SUBJECTS = frozenset(
    {"jobs", "samples", "timeline", "experiment", "functions", "windows", "pending", "deaths"}
)
NOT_SUBJECTS |= {"faults", "violations"}


@dataclass(frozen=True)
class _Table:
    schema: str
    name: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.name if self.schema == "main" else f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f'"{self.schema}"."{self.name}"'


@dataclass(frozen=True)
class _Row:
    table: _Table
    values: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash((self.table.label, str(sorted(self.values.items(), key=str))))


def tell_stories(
    connection: duckdb.DuckDBPyConnection, subjects: Sequence[str], faults: Sequence[FaultRecord]
) -> dict[str, tuple[TimelineEntry, ...]]:
    """The story of each subject."""
    tables = _tables(connection)
    return {subject: _story(connection, tables, subject, faults) for subject in dict.fromkeys(subjects)}


def _tables(connection: duckdb.DuckDBPyConnection) -> list[_Table]:
    rows = connection.execute(
        """
        select table_schema, table_name, list(column_name order by ordinal_position),
               list(column_name order by ordinal_position) filter (data_type = 'VARCHAR')
        from information_schema.columns where table_catalog = current_database() group by 1, 2 order by 1, 2
        """
    ).fetchall()
    return [
        _Table(schema, name, tuple(columns), tuple(texts))
        for schema, name, columns, texts in rows
        if texts and name not in NOT_SUBJECTS
    ]


def _story(
    connection: duckdb.DuckDBPyConnection, tables: list[_Table], subject: str, faults: Sequence[FaultRecord]
) -> tuple[TimelineEntry, ...]:
    known, asked = {subject}, set[str]()
    found: dict[_Row, None] = {}
    for _ in range(HOPS):
        fresh = known - asked
        if not fresh:
            break
        asked |= fresh
        for table in tables:
            rows = _rows_about(connection, table, fresh)
            if len(rows) <= CROWD * len(fresh):
                found |= dict.fromkeys(rows)
                known |= {name for row in rows for name in _names(row)}
    entries = [entry for row in found for entry in _entries(row)]
    entries.sort(key=lambda entry: entry.at_ns)
    entries = entries[:MOST_ENTRIES]
    return tuple(sorted(entries + _faults_beside(entries, faults), key=lambda entry: entry.at_ns))


def _rows_about(connection: duckdb.DuckDBPyConnection, table: _Table, names: set[str]) -> list[_Row]:
    """The rows that mention one of the names in a text column, crowds left out."""
    where = " or ".join(
        f'regexp_matches("{column}", $pattern)'
        if column in DOCUMENTS
        else f'"{column}" in (select unnest($names))'
        for column in table.texts
    )
    columns = [column for column in table.columns if f"{column}_ns" not in table.columns]
    shown = ", ".join(f'"{column}"' for column in columns)
    arguments: dict[str, Any] = {"names": sorted(names)}
    if DOCUMENTS & set(table.texts):
        arguments["pattern"] = "|".join(re.escape(f'"{name}"') for name in sorted(names))
    rows = connection.execute(
        f"select {shown} from {table.sql} where {where} limit {CROWD * len(names) + 1}", arguments
    ).fetchall()
    return [_Row(table, dict(zip(columns, row, strict=True))) for row in rows]


def _names(row: _Row) -> set[str]:
    return {
        value
        for column, value in row.values.items()
        if isinstance(value, str) and value and NAMES.search(column) and column != "account_id"
    }


def _entries(row: _Row) -> list[TimelineEntry]:
    """One entry per instant of a row: a payment is created, then finished."""
    source = row.table.label
    if row.table.schema == "witness":
        source = f"witness {row.values.get('witness') or row.table.name}"
    instants = {
        column: value
        for column, value in row.values.items()
        if column.endswith("_ns") and isinstance(value, int) and column != "intended_ns"
    }
    facts = " ".join(
        f"{column}={value}"
        for column, value in row.values.items()
        if value is not None and column not in ("seq", "witness") and not column.endswith("_ns")
    )
    entries = []
    for column, at_ns in instants.items():
        when = "" if column == "at_ns" else f"{column.removesuffix('_ns').removesuffix('_at')}: "
        entries.append(TimelineEntry(at_ns=at_ns, source=source, text=(when + facts)[:MOST_TEXT]))
    return entries


def _faults_beside(entries: list[TimelineEntry], faults: Sequence[FaultRecord]) -> list[TimelineEntry]:
    """Injections and healings of the run, so that the story can be read against them."""
    if not entries:
        return []
    told = []
    for fault in faults:
        name = f"{fault.fault} on {', '.join(fault.touches)}"
        if fault.injected_ns is not None:
            told.append(TimelineEntry(at_ns=fault.injected_ns, source="fault", text=f"{name} injected"))
        if fault.healed_ns is not None:
            told.append(TimelineEntry(at_ns=fault.healed_ns, source="fault", text=f"{name} healed"))
    return told
