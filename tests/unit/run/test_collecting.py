"""The final state is of one instant, or says that it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.evidence.folder import RunFolder
from harness.experiment.target import Endpoint
from harness.run import collecting
from harness.target.runtime import Address


class World:
    """A system in which ``late`` captures still arrive, one each time that tables have been read."""

    def __init__(self, late: int, pending: tuple[int, ...] = (0,)) -> None:
        self.captures = 5
        self.late = late
        self.snapshots = 0
        self._pending: Iterator[int] = iter(pending)
        self._last = 0

    def read_tables(self, *_: Any) -> dict[str, int]:
        self.snapshots += 1
        if self.late:
            self.late -= 1
            self.captures += 1
        return {}

    def read_log(self, url: str, path: Path) -> int:
        return self.captures

    def pending(self, *_: Any) -> dict[str, int]:
        self._last = next(self._pending, self._last)
        return {"outboxes": self._last} if self._last else {}


def collect(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setattr(collecting, "collect_sql", world.read_tables)
    monkeypatch.setattr(collecting, "collect_witness", world.read_log)
    monkeypatch.setattr(collecting, "pending_work", world.pending)
    monkeypatch.setattr(collecting, "conninfo", lambda spec, runtime: "somewhere")
    log = type("Log", (), {"service": "psp", "endpoint": Endpoint(port=1, path="/log")})()
    sql = type("Sql", (), {"tables": ()})()
    spec: Any = type("Spec", (), {"sql": sql, "witness_logs": (log,)})()
    runtime: Any = type("Runtime", (), {"address": lambda self, service, port: Address("h", 1)})()
    return collecting.collect(spec, runtime, RunFolder(folder))


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
    assert collect(world, tmp_path, monkeypatch) == moved
    assert world.snapshots == snapshots
