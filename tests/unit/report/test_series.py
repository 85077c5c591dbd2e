"""What the charts are drawn from, against operations counted by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.report.masking import masked
from harness.report.series import EVERYTHING, MAX_BUCKETS, Axis, read_series
from harness.report.words import number

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def stored(path: Path, rows: list[tuple[str, float, float | None, str]]) -> Path:
    """Rows of (kind, intended s, latency s, outcome)."""
    columns = {
        "kind": [row[0] for row in rows],
        "intended_ns": [START + int(row[1] * SECOND) for row in rows],
        "completed_ns": [None if row[2] is None else START + int((row[1] + row[2]) * SECOND) for row in rows],
        "outcome": [row[3] for row in rows],
    }
    file = path / "operations.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def test_buckets_outcomes_and_latencies(tmp_path: Path) -> None:
    rows = [
        ("topup", 0.1, 0.010, "ok"),
        ("topup", 0.9, 0.030, "ok"),
        ("topup", 0.95, 0.9, "fail"),
        ("balance", 0.5, 0.002, "ok"),
        ("topup", 2.0, None, "unknown"),
        ("other", 2.5, 0.5, "ok"),
    ]
    functions = {"payments": ("topup", "topup_replay"), "balance": ("balance",), "idle": ("nothing",)}
    series = read_series(stored(tmp_path, rows), functions, Axis(START, START + 6 * SECOND))
    assert series is not None
    assert list(series.channels) == [EVERYTHING, "payments", "balance", "other"]
    payments = series.channels["payments"]
    assert (payments.ok, payments.fail, payments.unknown) == ((2, 0, 0), (1, 0, 0), (0, 0, 1))
    assert payments.p99_ms[0] == pytest.approx(30)  # the refusal does not count
    assert payments.p99_ms[1:] == (None, pytest.approx(4000))  # never completed: up to the end of load
    assert payments.success(0) == pytest.approx(200 / 3)
    assert payments.success(1) is None
    assert series.channels[EVERYTHING].total(2) == 2


def test_long_runs_get_wider_buckets_and_lose_nothing(tmp_path: Path) -> None:
    rows = [("topup", float(second), 0.01, "ok") for second in range(1000)]
    series = read_series(stored(tmp_path, rows), {}, Axis())
    assert series is not None
    assert series.width_s == 4
    assert series.buckets <= MAX_BUCKETS
    assert sum(series.channels[EVERYTHING].ok) == 1000


def test_no_operations_is_no_series(tmp_path: Path) -> None:
    assert read_series(stored(tmp_path, []), {}, Axis()) is None


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (99.8997, 99.9, "99.8997 %"),
        (99.4, 99.9, "99.40 %"),
        (99.9, 99.9, "99.90 %"),
        (99.90004, 99.9, "99.90004 %"),
        (100.0, 99.9, "100 %"),
        (None, 99.9, "unknown"),
    ],
)
def test_figures_keep_the_side_of_their_limit(value: float | None, limit: float, text: str) -> None:
    assert number(value, "%" if value is not None else "", beside=limit) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql://app:pa55@db:5432/x", "pa55"),
        ("Authorization: Bearer abc.def", "abc.def"),
        ("DB_PASSWORD=s3cret next", "s3cret"),
        ('{"api_key": "k-123"}', "k-123"),
    ],
)
def test_secrets_in_texts_are_masked(text: str, hidden: str) -> None:
    assert hidden not in masked([{"text": text}])[0]["text"]
    assert (
        masked("idempotency key k-77 at postgresql://app@db") == "idempotency key k-77 at postgresql://app@db"
    )
