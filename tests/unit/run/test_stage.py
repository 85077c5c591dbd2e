"""What the evidence rests on: its end is noticed, and is a death like any other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import Death
from harness.run.stage import Stage
from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine
from harness.toxiproxy.find import find_engine

pytestmark = pytest.mark.timeout(60)


class Runtime:
    def __init__(self, *dead: str) -> None:
        self._dead = dead

    def deaths(self) -> tuple[Death, ...]:
        return tuple(Death(service=name, at_ns=1, exit_code=-9) for name in self._dead)


def stage(engine: Any, runtime: Runtime) -> Stage:
    log = type("Log", (), {"service": "psp-a"})()
    spec: Any = type("Spec", (), {"witness_logs": (log,)})()
    made = Stage(spec, "r", 1, None, None, Path("."), lambda text: None)  # type: ignore[arg-type]
    made.engine, made.runtime = engine, runtime  # type: ignore[assignment]
    return made


def comes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_an_engine_that_was_killed_stops_the_run_and_is_a_death(tmp_path: Path) -> None:
    spawner = LocalSpawner()
    try:
        engine = Engine.start(find_engine("builtin"), spawner, tmp_path / "engine.log", port=free_port())
        whole = stage(engine, Runtime())
        whole.check()
        engine.restart()
        whole.check()  # replaced on purpose: whoever did it has told of it
        assert whole.deaths() == ()
        spawner._children[-1].signal(signal.SIGKILL)
        assert comes(lambda: not engine.alive())
        with pytest.raises(EnvironmentBroken, match="engine ended uninvited, exit code -9"):
            whole.check()
        assert [(death.service, death.exit_code) for death in whole.deaths()] == [("toxiproxy", -9)]
    finally:
        spawner.close()


def test_a_dead_witness_stops_the_run_and_another_service_does_not() -> None:
    engine: Any = type("Engine", (), {"alive": lambda self: True})()
    stage(engine, Runtime("payments")).check()
    with pytest.raises(EnvironmentBroken, match="the witness psp-a ended uninvited"):
        stage(engine, Runtime("payments", "psp-a")).check()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
