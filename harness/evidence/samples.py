"""Samples as they come: JSON lines on disk at once, one Parquet file at the end.

Several threads sample at the same time. A run that dies keeps the lines; ``close`` turns them into
``samples.parquet`` and removes them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import EnvironmentBroken
from harness.evidence.model import Sample

SAMPLE_SCHEMA = pa.schema(
    [
        ("at_ns", pa.int64()),
        ("name", pa.string()),
        ("subject", pa.string()),
        ("value", pa.float64()),
        ("text", pa.string()),
    ]
)
BATCH_ROWS = 10_000


class SampleLog:
    """Collects samples of one run. ``append`` may be called from any thread."""

    def __init__(self, evidence: Path) -> None:
        self._parquet = evidence / "samples.parquet"
        self._lines = evidence / "samples.jsonl"
        self._lock = threading.Lock()
        evidence.mkdir(parents=True, exist_ok=True)
        self._file = self._lines.open("a", encoding="utf-8", buffering=1)

    def append(self, sample: Sample) -> None:
        """Keep one sample. After ``close`` it is an error: evidence may not grow any more."""
        with self._lock:
            if self._file.closed:
                raise EnvironmentBroken("a sample came after the samples were closed")
            self._file.write(sample.model_dump_json() + "\n")

    def close(self) -> int:
        """Write ``samples.parquet``; returns the number of samples. A second call does nothing."""
        with self._lock:
            if self._file.closed:
                return 0
            self._file.close()
        count = 0
        beside = self._parquet.with_name(".samples.parquet.part")
        with pq.ParquetWriter(beside, SAMPLE_SCHEMA) as writer:
            for batch in self._batches():
                writer.write_batch(batch)
                count += batch.num_rows
        beside.replace(self._parquet)
        self._lines.unlink()
        return count

    def _batches(self) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, object]] = []
        with self._lines.open(encoding="utf-8") as lines:
            for line in lines:
                rows.append(Sample.model_validate_json(line).model_dump())
                if len(rows) == BATCH_ROWS:
                    yield pa.RecordBatch.from_pylist(rows, SAMPLE_SCHEMA)
                    rows = []
        yield pa.RecordBatch.from_pylist(rows, SAMPLE_SCHEMA)
