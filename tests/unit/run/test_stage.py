"""What the evidence rests on: its end is noticed, and is a death like any other."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.evidence.model import Death
from harness.experiment.target import Service
from harness.run.stage import Stage
from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine
from harness.toxiproxy.find import find_engine
from harness.toxiproxy.links import LinkLayer

from .stand_ins import SPEC

pytestmark = pytest.mark.timeout(60)


class Runtime:
    def __init__(self, *dead: str) -> None:
        self._dead = dead

    def deaths(self) -> tuple[Death, ...]:
        return tuple(Death(service=name, at_ns=1, exit_code=-9) for name in self._dead)


def stage(engine: Any, runtime: Runtime) -> Stage:
    services = {"psp-a": Service(name="psp-a", witness=True), "payments": Service(name="payments")}
    spec = SPEC.model_copy(update={"services": services})
    made = Stage(spec, "r", 1, None, None, Path("."), lambda text: None)  # type: ignore[arg-type]
    made.engine, made.runtime = engine, runtime  # type: ignore[assignment]
    return made


def comes(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


@pytest.fixture
def spawner() -> Iterator[LocalSpawner]:
    made = LocalSpawner()
    yield made
    made.close()


def with_engine(spawner: LocalSpawner, folder: Path) -> Stage:
    engine = Engine.start(find_engine("builtin"), spawner, folder / "engine.log", port=free_port())
    whole = stage(engine, Runtime())
    whole.links = LinkLayer(engine, on_restart=whole._note_restart)
    whole.links.create("a->b", f"127.0.0.1:{free_port()}", "127.0.0.1:1")
    return whole


def kill(whole: Stage, spawner: LocalSpawner) -> None:
    spawner._children[-1].signal(signal.SIGKILL)
    assert comes(lambda: not whole.engine.alive())


def deaths(whole: Stage) -> list[tuple[str, int | None]]:
    return [(death.service, death.exit_code) for death in whole.deaths()]


def test_an_engine_that_was_killed_is_one_death_and_is_replaced(
    spawner: LocalSpawner, tmp_path: Path
) -> None:
    whole = with_engine(spawner, tmp_path)
    assert (whole.fallen(), whole.deaths()) == (None, ())
    whole.mend()  # nothing to mend
    kill(whole, spawner)
    why = "the Toxiproxy engine ended uninvited, exit code -9"
    assert whole.fallen() == why
    whole.mend()
    assert whole.engine.alive() and whole.links.state("a->b").enabled
    assert whole.fallen() == why and deaths(whole) == [("toxiproxy", -9)]
    kill(whole, spawner)
    whole.mend()
    assert not whole.engine.alive(), "once is enough"


def test_an_engine_that_a_fault_replaced_first_is_the_same_death(
    spawner: LocalSpawner, tmp_path: Path
) -> None:
    whole = with_engine(spawner, tmp_path)
    kill(whole, spawner)
    whole.links.set_enabled("a->b", False)
    assert "ended or fell silent" in (whole.fallen() or "")
    assert deaths(whole) == [("toxiproxy", None)]


def test_an_engine_that_cannot_be_replaced_is_a_death(spawner: LocalSpawner, tmp_path: Path) -> None:
    whole = with_engine(spawner, tmp_path)
    whole.engine.stop()
    whole.mend()
    assert deaths(whole) == [("toxiproxy", None)]


def test_a_dead_witness_ends_the_run_and_another_service_does_not() -> None:
    engine: Any = type("Engine", (), {"alive": lambda self: True})()
    assert stage(engine, Runtime("payments")).fallen() is None
    whole = stage(engine, Runtime("payments", "psp-a"))
    assert whole.fallen() == "the witness psp-a ended uninvited, exit code -9"


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
