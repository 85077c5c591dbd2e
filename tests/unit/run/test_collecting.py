"""The final state is of one instant, or says that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.folder import RunFolder
from harness.experiment.target import Endpoint
from harness.run import collecting
from harness.run.collecting import Collected
from harness.target.runtime import Address


class World:
    """A system in which ``late`` captures still arrive, one each time that tables have been read."""

    folder: RunFolder

    def __init__(self, late: int, pending: tuple[int, ...] = (0,)) -> None:
        self.captures = 5
        self.late = late
        self.snapshots = 0
        self.slept_s: list[float] = []
        self.refuses: set[str] = set()  # of "tables", and "log" or "log after"
        self._pending: Iterator[int] = iter(pending)
        self._last = 0

    def read_tables(self, *_: Any) -> dict[str, int]:
        self.snapshots += 1
        if "tables" in self.refuses:
            raise EnvironmentBroken("no tables")
        place = self.folder.sql / "a.b.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        if self.late:
            self.late -= 1
            self.captures += 1
        return {}

    def read_log(self, url: str, path: Path) -> int:
        if "log" in self.refuses or ("log after" in self.refuses and self.snapshots):
            raise EnvironmentBroken("no log")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return self.captures

    def pending(self, *_: Any) -> dict[str, int]:
        self._last = next(self._pending, self._last)
        return {"outboxes": self._last} if self._last else {}


def collect(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, conninfo: str | None = "x"
) -> Collected:
    world.folder = RunFolder(folder)
    monkeypatch.setattr(collecting.time, "sleep", world.slept_s.append)
    monkeypatch.setattr(collecting, "collect_sql", world.read_tables)
    monkeypatch.setattr(collecting, "collect_witness", world.read_log)
    monkeypatch.setattr(collecting, "pending_work", world.pending)
    monkeypatch.setattr(collecting, "conninfo", lambda spec, runtime: conninfo)
    log = type("Log", (), {"service": "psp", "endpoint": Endpoint(port=1, path="/log")})()
    sql = type("Sql", (), {"tables": (), "role": "db"})()
    spec: Any = type("Spec", (), {"sql": sql, "witness_logs": (log,)})()
    runtime: Any = type("Runtime", (), {"address": lambda self, service, port: Address("h", 1)})()
    return collecting.collect(spec, runtime, world.folder)


@pytest.mark.parametrize(
    ("world", "moved", "snapshots"),
    [
        (World(late=0), (), 1),
        (World(late=1), (), 2),  # tables before the capture, log after it: read again
        (World(late=9), ("witness psp",), 3),
        (World(late=0, pending=(0, 2)), (), 2),  # work came up in between
        (World(late=0, pending=(3, 3, 2)), (), 1),  # stuck is not moving: that is settling's to say
        (World(late=0, pending=(-1,)), ("outboxes",), 3),  # not to be asked is not to be known
    ],
)
def test_tables_and_logs_are_of_one_instant(
    world: World, moved: tuple[str, ...], snapshots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collect(world, tmp_path, monkeypatch) == Collected(moved, ())
    assert world.snapshots == snapshots
    assert world.slept_s == [collecting.BREATH_S] * (snapshots - 1)


@pytest.mark.parametrize(
    ("refuses", "pending", "missing", "left"),
    [
        ("tables", (-1,), ("no tables",), {"psp.jsonl"}),  # nothing is of another instant than nothing
        ("log", (0,), ("no log",), {"a.b.parquet"}),
        ("log after", (0,), ("no log",), {"a.b.parquet"}),  # a log from before the tables is no evidence
    ],
)
def test_what_cannot_be_had_is_left_out_whole_and_named(
    refuses: str,
    pending: tuple[int, ...],
    missing: tuple[str, ...],
    left: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(late=0, pending=pending)
    world.refuses = {refuses}
    assert collect(world, tmp_path, monkeypatch) == Collected((), missing)
    assert world.snapshots == 1
    assert {path.name for path in tmp_path.rglob("*.*")} == left


def test_without_a_primary_the_tables_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(late=0)
    monkeypatch.setattr(collecting, "PATIENCE_S", 0.0)
    found = collect(world, tmp_path, monkeypatch, conninfo=None)
    assert found.missing == ("nobody holds the role 'db' after 0 s, so the final state cannot be read",)
