"""The recorder and its reader: what is appended is on disk soon, and damage is noticed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import OPERATION_COLUMNS
from harness.load import records
from harness.load.config import Folder
from harness.load.recorder import Recorder, Tally


def row(seq: int, **changes: Any) -> tuple[Any, ...]:
    now = time.time_ns()
    values = {
        "seq": seq,
        "id": f"op-{seq}",
        "kind": "topup",
        "key": f"key {seq} ü",
        "subscriber": 7,
        "amount_minor": None,
        "intended_ns": now,
        "invoked_ns": now,
        "completed_ns": now + 1_000_000,
        "attempts": 1,
        "outcome": "ok",
        "status": 201,
        "error": None,
        "ref": None,
        "result": -5,
        "detail": '{"a": 1}',
        "queued_ns": 0,
    } | changes
    return tuple(values[name] for name in OPERATION_COLUMNS)


class Recording:
    def __init__(self, path: Path) -> None:
        self.files, self.tally, self.failures = Folder(path), Tally(), list[BaseException]()
        self.recorder = Recorder(self.files, self.tally, time.time_ns, self.failures.append)
        self.recorder.start(time.time_ns())

    def close(self) -> dict[str, Any]:
        self.recorder.close("done")
        deadline = time.monotonic() + 5
        while not (self.recorder.closed or self.failures) and time.monotonic() < deadline:
            time.sleep(0.01)
        return json.loads(self.files.summary.read_text())


def test_rows_are_readable_half_a_second_later_and_none_is_lost(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    waited_s = []
    for batch in (1, 2, 3):
        for seq in range(100 * batch, 100 * (batch - 1), -1):
            recording.recorder.append(row(seq))
        started = time.monotonic()
        while records.count(recording.files.operations) < 100 * batch:
            assert time.monotonic() - started < 5, "not written without closing"
            time.sleep(0.01)
        waited_s.append(time.monotonic() - started)
    assert min(waited_s) < 0.5, "a busy machine may be late, but not each time"
    recording.recorder.append(row(301))
    assert recording.close()["recorded"] == 301
    found = records.read(recording.files.operations)
    assert found.column_names == list(OPERATION_COLUMNS)
    assert found["seq"].to_pylist() == list(range(1, 302))
    assert found.slice(6, 1).to_pylist()[0]["key"] == "key 7 ü"
    assert records.unfinished_bytes(recording.files.operations) == 0
    assert records.write_parquet(recording.files.operations, tmp_path / "o.parquet") == 301
    assert pyarrow.parquet.read_table(tmp_path / "o.parquet").equals(found)


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_an_unfinished_row_at_the_end_is_left_out(tmp_path: Path, cut: int) -> None:
    recording = Recording(tmp_path)
    for seq in (1, 2, 3):
        recording.recorder.append(row(seq))
    recording.close()
    file = recording.files.operations
    whole = file.stat().st_size
    os.truncate(file, whole - cut)
    found = records.read(file)
    assert found["seq"].to_pylist() == [1, 2]
    assert records.unfinished_bytes(file) == whole - cut - whole * 2 // 3


def test_a_growing_file_is_read_on_from_its_last_whole_row(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for seq in range(1, 6):
        recording.recorder.append(row(seq))
    recording.close()
    whole = recording.files.operations.read_bytes()
    file = tmp_path / "growing"
    growing = records.Growing(file)
    assert growing.table().num_rows == 0
    for length in (10, 10, len(whole) // 2, len(whole) - 1, len(whole), len(whole)):
        file.write_bytes(whole[:length])
        assert growing.table()["seq"].to_pylist() == list(range(1, 5 * length // len(whole) + 1))
    assert growing.table().equals(records.read(file))
    file.write_bytes(whole + bytes([0xC1]))
    with pytest.raises(EnvironmentBroken, match=f"no row can be read at byte {len(whole)}"):
        growing.table()


def test_damage_is_an_error_not_a_shorter_history(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for seq in (1, 2, 3):
        recording.recorder.append(row(seq))
    recording.close()
    file = recording.files.operations
    data = bytearray(file.read_bytes())
    data[len(data) // 3] = 0xC1  # the start of the second row; never used in msgpack
    file.write_bytes(data)
    with pytest.raises(EnvironmentBroken, match="no row can be read"):
        records.read(file)
    data[len(data) // 3] = 0x01  # a number where a row should begin
    file.write_bytes(data)
    with pytest.raises(EnvironmentBroken, match="not a row"):
        records.count(file)


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert records.read(tmp_path / "none").num_rows == 0


def test_a_row_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.recorder.append(row(1, result=2**70))
    deadline = time.monotonic() + 5
    while not recording.failures and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(recording.failures[0], OverflowError)
    assert not recording.recorder.closed


def test_late_arrivals_are_counted_in_the_next_second() -> None:
    tally = Tally()
    tally.intended[0] += 2
    assert tally.take_intended(0) == 2
    tally.intended[0] += 1
    tally.intended[1] += 4
    assert tally.take_intended(1) == 5
