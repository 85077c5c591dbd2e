"""How a run ends when it cannot go on: a person's wish, or the end of what its evidence rests on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.integration.harness_run import processes_of, wait_until
from tests.integration.test_left_behind import PHASES, Watched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def ends(run: Watched, within_s: float) -> int:
    try:
        return run.process.wait(within_s)
    finally:
        if run.process.poll() is None:
            run.process.kill()


def test_a_stop_while_services_come_up_is_obeyed_at_once(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    assert wait_until(lambda: run.saw(PHASES["deploying"]), 90), "".join(run.lines)
    time.sleep(1.0)
    asked_s = time.monotonic()
    os.killpg(run.process.pid, signal.SIGTERM)  # as GNU timeout does it: child and group
    run.process.send_signal(signal.SIGTERM)
    assert ends(run, 30) == 130, "".join(run.lines)
    assert time.monotonic() - asked_s < 8, "it did not wait for what was coming up"
    assert run.saw("stopped by SIGTERM: healing and removing everything"), "".join(run.lines)
    assert not processes_of(run.run_id)


def test_a_link_engine_that_dies_is_the_environments_failure_not_the_targets(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    assert wait_until(lambda: run.saw(r"load \d+/s"), 90), "".join(run.lines)
    engine = [p for p in psutil.Process(run.process.pid).children(recursive=True) if is_engine(p)]
    assert engine, "an engine runs"
    engine[0].kill()
    assert ends(run, 30) == 4, "".join(run.lines)
    assert run.saw("the Toxiproxy engine ended uninvited, exit code -9"), "".join(run.lines)
    assert not (tmp_path / run.run_id / "verdict.json").exists()
    assert not processes_of(run.run_id)


def is_engine(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any("toxiproxy" in word for word in command) and any("port" in word for word in command)
