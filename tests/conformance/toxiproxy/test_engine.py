"""An engine's life: whoever asks is told the truth, whatever became of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine
from harness.toxiproxy.find import EngineChoice
from tests.conformance.toxiproxy.conftest import free_port


def test_alive_until_it_falls_and_again_once_it_is_replaced(
    choice: EngineChoice, spawner: LocalSpawner, tmp_path: Path
) -> None:
    engine = Engine.start(choice, spawner, tmp_path / "engine.log", port=free_port())
    assert engine.alive() and engine.fallen() is None
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while engine.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not engine.alive() and engine.fallen() == -signal.SIGKILL

    engine.restart()
    assert engine.alive() and engine.fallen() is None
    engine.stop()
    assert not engine.alive() and engine.fallen() is None, "nobody fell: it was ended"


def test_one_that_is_being_replaced_has_not_fallen(
    choice: EngineChoice, spawner: LocalSpawner, tmp_path: Path
) -> None:
    engine = Engine.start(choice, spawner, tmp_path / "engine.log", port=free_port())
    replacing = threading.Thread(target=engine.restart)
    replacing.start()
    seen = set()
    while replacing.is_alive():
        seen.add((engine.alive(), engine.fallen()))
    assert seen == {(True, None)} and engine.alive()
    engine.stop()
