"""What customers felt over time: the operations of a run, bucketed for charts.

An operation belongs to the bucket of its *intended* send time, and its latency counts from there, so
a stall shows where customers felt it. As for objectives, latency is that of operations which were not
refused, and one that never completed counts up to the end of load. Buckets are one second wide, wider
in long runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

MAX_BUCKETS = 300
EVERYTHING = "all operations"


@dataclass(frozen=True)
class Channel:
    """One function's figures. Lists have one entry per bucket; latencies in ms, None: nothing completed."""

    ok: tuple[int, ...]
    fail: tuple[int, ...]
    unknown: tuple[int, ...]
    p50_ms: tuple[float | None, ...]
    p99_ms: tuple[float | None, ...]

    def total(self, bucket: int) -> int:
        """Operations due in a bucket, whatever became of them."""
        return self.ok[bucket] + self.fail[bucket] + self.unknown[bucket]

    def success(self, bucket: int) -> float | None:
        """Percentage of operations that ended ok; None when none was due."""
        total = self.total(bucket)
        return 100 * self.ok[bucket] / total if total else None


@dataclass(frozen=True)
class Series:
    """All functions on one axis of ``buckets`` buckets of ``width_s`` seconds from ``zero_ns`` on."""

    zero_ns: int
    width_s: int
    buckets: int
    channels: dict[str, Channel]  # the first one is ``EVERYTHING``

    @property
    def end_s(self) -> int:
        return self.width_s * self.buckets


_QUERY = """
select f.name, least(greatest((o.intended_ns - $zero) // $width, 0), $last) as bucket,
       count(*) filter (o.outcome = 'ok') as ok,
       count(*) filter (o.outcome = 'fail') as fail,
       count(*) - ok - fail as unknown,
       quantile_disc(latency_ms, 0.5) filter (o.outcome <> 'fail') as p50_ms,
       quantile_disc(latency_ms, 0.99) filter (o.outcome <> 'fail') as p99_ms
from (select *, (coalesce(completed_ns, greatest($ended, intended_ns)) - intended_ns) / 1e6 as latency_ms
      from operations) o
join functions f on o.kind = f.kind
group by all
"""


@dataclass(frozen=True)
class Axis:
    """The start and the end of load (epoch ns), as far as they are known."""

    start_ns: int | None = None
    end_ns: int | None = None


def read_series(file: Path, functions: Mapping[str, tuple[str, ...]], axis: Axis) -> Series | None:
    """Bucket ``operations.parquet``. ``functions``: name -> operation kinds. None: no operations.

    Without an ``axis``, the first and last operations give it. Raises duckdb.Error for a bad file.
    """
    with duckdb.connect() as connection:
        connection.read_parquet(str(file)).create("operations")
        found = connection.execute(
            "select min(intended_ns), max(intended_ns), max(completed_ns), list(distinct kind)"
            " from operations"
        ).fetchone()
        if found is None or found[0] is None:
            return None
        first_ns, last_ns, completed_ns, kinds = found
        zero = first_ns if axis.start_ns is None else axis.start_ns
        ended = axis.end_ns or completed_ns or last_ns
        length_s = max(1, math.floor((last_ns - zero) / 1e9) + 1)
        width_s = math.ceil(length_s / MAX_BUCKETS)
        buckets = math.ceil(length_s / width_s)
        groups = _groups(functions, kinds)
        connection.execute("create table functions (name varchar, kind varchar)")
        connection.executemany(
            "insert into functions values (?, ?)", [(name, kind) for name in groups for kind in groups[name]]
        )
        width_ns = width_s * 1_000_000_000
        values = {"zero": zero, "ended": ended, "width": width_ns, "last": buckets - 1}
        rows = connection.execute(_QUERY, values).fetchall()
    return Series(zero, width_s, buckets, {name: _channel(name, rows, buckets) for name in groups})


def _groups(functions: Mapping[str, tuple[str, ...]], kinds: list[str]) -> dict[str, list[str]]:
    """Functions that saw traffic; kinds that belong to none stand for themselves."""
    groups = {EVERYTHING: sorted(kinds)}
    for name, members in functions.items():
        present = [kind for kind in members if kind in kinds]
        if present:
            groups[name] = present
    grouped = {kind for members in functions.values() for kind in members}
    return groups | {kind: [kind] for kind in sorted(set(kinds) - grouped)}


def _channel(name: str, rows: list[tuple[Any, ...]], buckets: int) -> Channel:
    mine = {int(row[1]): row[2:] for row in rows if row[0] == name}
    empty = (0, 0, 0, None, None)
    ok, fail, unknown, p50, p99 = zip(*(mine.get(bucket, empty) for bucket in range(buckets)), strict=True)
    return Channel(ok, fail, unknown, p50, p99)
