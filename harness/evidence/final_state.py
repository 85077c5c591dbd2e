"""The state a run ended in: the system's own tables, and the logs of the witnesses outside it.

Tables are read in one read-only snapshot, so that what one table says agrees with the next; rows
stream from COPY to Parquet, never all in memory. Instants become microseconds in UTC, whole numbers
stay whole; what Parquet has no word for (UUID, JSON, numeric) stays the text PostgreSQL gives.
"""

from __future__ import annotations

import http.client
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psycopg
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from psycopg import sql

from harness.errors import EnvironmentBroken
from harness.evidence.folder import RunFolder, whole_file

INSTANT = pa.timestamp("us", tz="UTC")
ARROW_TYPES: dict[str, pa.DataType] = {
    "int2": pa.int64(),
    "int4": pa.int64(),
    "int8": pa.int64(),
    "float4": pa.float64(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "timestamptz": INSTANT,
}
EARLIEST = sql.Literal("1678-01-01 00:00:00+00")
LATEST = sql.Literal("2262-01-01 00:00:00+00")
BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str  # PostgreSQL's type name

    @property
    def arrow(self) -> pa.DataType:
        return ARROW_TYPES.get(self.kind, pa.string())

    def expression(self) -> sql.Composable:
        """How it is asked for: instants as whole microseconds, so that no text is parsed back.

        Instants that nanoseconds cannot hold, ``infinity`` among them, become the last ones they can.
        """
        name = sql.Identifier(self.name)
        if self.kind == "timestamptz":
            clipped = "case when {0} is not null then least(greatest({0}, {1}), {2}) end"
            instant = sql.SQL(clipped).format(name, EARLIEST, LATEST)
            return sql.SQL("(extract(epoch from {}) * 1000000)::bigint").format(instant)
        return name if self.kind in ARROW_TYPES else sql.SQL("{}::text").format(name)


def collect_sql(conninfo: str, tables: Sequence[str], folder: RunFolder) -> dict[str, int]:
    """Write each ``schema.table`` to ``evidence/sql/<schema>.<table>.parquet``; rows by table.

    Raises EnvironmentBroken when the database cannot be read or a table does not exist.
    """
    try:
        with psycopg.connect(conninfo, autocommit=False) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return {table: _copy(connection, table, folder) for table in tables}
    except psycopg.Error as error:
        raise EnvironmentBroken(f"the final state cannot be collected: {str(error).strip()}") from error


def _copy(connection: psycopg.Connection, table: str, folder: RunFolder) -> int:
    columns = _columns(connection, table)
    query = sql.SQL("copy (select {} from {}) to stdout (format csv, header false)").format(
        sql.SQL(", ").join(column.expression() for column in columns), sql.Identifier(*table.split(".", 1))
    )
    with tempfile.TemporaryFile(dir=folder.evidence) as spool:
        with connection.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                spool.write(block)
        with whole_file(folder.sql / f"{table}.parquet") as place:
            return _to_parquet(spool, columns, place)


def _columns(connection: psycopg.Connection, table: str) -> list[_Column]:
    found = connection.execute(
        """
        select a.attname, t.typname from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped order by a.attnum
        """,
        (table,),
    ).fetchall()
    if not found:
        raise EnvironmentBroken(
            f"the final state has no table {table!r}",
            hint="see evidence.sql.tables in the target's compose.yaml",
        )
    return [_Column(name, kind) for name, kind in found]


def _to_parquet(spool: BinaryIO, columns: list[_Column], place: Path) -> int:
    schema = pa.schema([(column.name, column.arrow) for column in columns])
    rows = 0
    with pq.ParquetWriter(place, schema) as writer:
        if spool.tell():  # an empty table: the CSV reader refuses an empty file
            spool.seek(0)
            for batch in _read_csv(spool, columns):
                writer.write_batch(batch.cast(schema))
                rows += batch.num_rows
    return rows


def _read_csv(spool: BinaryIO, columns: list[_Column]) -> pacsv.CSVStreamingReader:
    raw = {c.name: pa.int64() if c.arrow == INSTANT else c.arrow for c in columns}
    return pacsv.open_csv(
        spool,
        read_options=pacsv.ReadOptions(column_names=list(raw), block_size=BLOCK_BYTES, use_threads=False),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(
            column_types=raw,
            null_values=[""],  # COPY writes null as nothing, and the empty text as ""
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


def collect_witness(url: str, path: Path, *, timeout_s: float = 60.0) -> int:
    """Stream a witness's log to ``path`` as it comes; returns the number of lines.

    ``timeout_s`` bounds each wait for more bytes. Raises EnvironmentBroken when the log cannot be
    had whole.
    """
    try:
        # Never by way of a web proxy: witnesses listen on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=timeout_s) as answer, whole_file(path) as place:
            return _stream(answer, place)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EnvironmentBroken(f"the witness log at {url} cannot be collected: {error}") from error


def _stream(answer: http.client.HTTPResponse, place: Path) -> int:
    """All of the answer; ValueError when it ends before its length or in the middle of a line."""
    lines, size, last = 0, 0, b"\n"
    with place.open("wb") as sink:
        while block := answer.read(1 << 20):
            sink.write(block)
            size += len(block)
            lines += block.count(b"\n")
            last = block[-1:]
    promised = answer.headers.get("Content-Length")
    if promised is not None and size != int(promised):
        raise ValueError(f"{size} of {promised} bytes came")
    if last != b"\n":
        raise ValueError("it ends in the middle of a line")
    return lines
