"""Reading what the recorder wrote: rows of msgpack arrays, in the columns of the evidence.

A file of a child that was killed may end in the middle of a row; that tail is left out.
Anything else that does not fit is an error: damaged history is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]
import pyarrow as pa
import pyarrow.parquet

from harness.errors import EnvironmentBroken
from harness.evidence.model import OPERATION_COLUMNS

ARROW_TYPES = {"BIGINT": pa.int64(), "VARCHAR": pa.string()}
SCHEMA = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in OPERATION_COLUMNS.items()])
CHUNK_ROWS = 50_000
_INVOKED = list(OPERATION_COLUMNS).index("invoked_ns")


def read_rows(path: Path) -> Iterator[tuple[Any, ...]]:
    """The whole rows of a record file, in the order in which they were written."""
    for row, _ in _rows(path):
        yield row


def read(path: Path) -> pa.Table:
    """All whole rows of a record file, by ``seq``. No file: no rows.

    Raises EnvironmentBroken when the file is damaged.
    """
    return Growing(path).table().sort_by("seq")


class Growing:
    """A record file that is still being written: what was read once is not read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        self._batches: list[pa.RecordBatch] = []

    def table(self) -> pa.Table:
        """All whole rows so far, in the order in which they were written.

        Raises EnvironmentBroken when the file is damaged.
        """
        new = _rows(self._path, self._end)
        while chunk := list(islice(new, CHUNK_ROWS)):
            self._end = chunk[-1][1]
            self._batches.append(_batch([row for row, _ in chunk], self._path))
        return pa.Table.from_batches(self._batches, SCHEMA)


def unfinished_bytes(path: Path) -> int:
    """The length of the row at the end that was not written whole; 0 when all is well."""
    end = 0
    for _, end in _rows(path):  # noqa: B007  # the last one counts
        pass
    return path.stat().st_size - end if path.exists() else 0


def count(path: Path) -> int:
    """How many whole rows a record file has."""
    return sum(1 for _ in _rows(path))


def count_begun(path: Path) -> int:
    """How many of them are of operations that began; the others found no user before load ended."""
    return sum(row[_INVOKED] is not None for row, _ in _rows(path))


def write_parquet(operations_file: Path, parquet: Path) -> int:
    """Turn a record file into ``operations.parquet``; returns the number of rows."""
    table = read(operations_file)
    pa.parquet.write_table(table, parquet)
    return int(table.num_rows)


def _rows(path: Path, start: int = 0) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Each whole row from byte ``start`` on, with the place in the file where it ends."""
    if not path.exists():
        return
    with path.open("rb") as source:
        source.seek(start)
        unpacker = msgpack.Unpacker(source, use_list=False)
        end = start
        while True:
            try:
                row = unpacker.unpack()
            except msgpack.OutOfData:
                return
            except ValueError as error:
                raise EnvironmentBroken(f"{path}: no row can be read at byte {end}: {error}") from error
            if not isinstance(row, tuple) or len(row) != len(OPERATION_COLUMNS):
                raise EnvironmentBroken(f"{path}: at byte {end} stands {str(row)[:80]}, not a row")
            end = start + unpacker.tell()
            yield row, end


def _batch(rows: list[tuple[Any, ...]], path: Path) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    try:
        arrays = [pa.array(values, kind) for values, kind in zip(columns, SCHEMA.types, strict=True)]
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EnvironmentBroken(f"{path}: a row's value does not fit its column: {error}") from error
    return pa.record_batch(arrays, schema=SCHEMA)
