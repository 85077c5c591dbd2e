"""To which phase an operation belongs: by its intended time, unless the first fault met it under way."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from harness.evidence.folder import RunFolder
from harness.evidence.model import Timeline
from harness.evidence.views import _operations


@pytest.mark.parametrize(
    ("injected_ns", "counted"),
    [(1000, [800, 1000, 1000, 1100]), (None, [800, 900, 950, 1100])],
)
def test_counted(tmp_path: Path, injected_ns: int | None, counted: list[int]) -> None:
    folder = RunFolder.create(tmp_path, "r")
    connection = duckdb.connect()
    rows = "(800, 900), (900, 1200), (950, null), (1100, 1300)"
    connection.execute(
        f"copy (select * from (values {rows}) t(intended_ns, completed_ns)) to '{folder.operations}'"
    )
    timeline = Timeline(
        deploy_started_ns=0,
        ready_ns=0,
        load_started_ns=0,
        steady_ended_ns=990,
        first_injection_ns=injected_ns,
    )
    _operations(connection, folder, timeline)
    found = connection.execute("select counted_ns from operations order by intended_ns").fetchall()
    assert [row[0] for row in found] == counted
