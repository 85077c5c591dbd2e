"""How a run ends when it cannot go on: a person's wish, or the end of what its evidence rests on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from harness.check.judge import read_verdict
from harness.evidence.folder import RunFolder
from tests.integration.harness_run import processes_of, wait_until
from tests.integration.test_left_behind import PHASES, SMALL, Watched

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


def test_a_link_engine_that_dies_convicts_nobody_and_evidence_is_kept(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    assert wait_until(lambda: run.saw(r"load \d+/s"), 90), "".join(run.lines)
    engine = [p for p in psutil.Process(run.process.pid).children(recursive=True) if is_engine(p)]
    assert engine, "an engine runs"
    engine[0].kill()
    assert ends(run, 90) == 3, "".join(run.lines)
    assert run.saw("the Toxiproxy engine ended uninvited, exit code -9: the run ends early"), run.lines
    folder = RunFolder.open(tmp_path / run.run_id)
    timeline = folder.read_timeline()
    assert [(death.service, death.exit_code) for death in timeline.deaths] == [("toxiproxy", -9)]
    assert timeline.settled_ns and timeline.collected_ns, "a new engine let the target settle"
    assert len(folder.read_faults()) == 1 and folder.operations.exists()
    assert "ended uninvited" in read_verdict(folder).reasons[0]
    assert not processes_of(run.run_id)


def test_a_witness_that_dies_convicts_nobody_and_the_rest_is_collected(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    assert wait_until(lambda: run.saw(r"load \d+/s"), 90), "".join(run.lines)
    family = psutil.Process(run.process.pid).children(recursive=True)
    witness = [p for p in family if is_witness(p, "psp-a")]
    assert witness, "the witness runs"
    witness[0].kill()
    assert ends(run, 90) == 3, "".join(run.lines)
    folder = RunFolder.open(tmp_path / run.run_id)
    timeline = folder.read_timeline()
    assert [death.service for death in timeline.deaths] == ["psp-a"]
    assert len(timeline.not_collected) == 1 and "psp-a" not in {p.stem for p in folder.witness.iterdir()}
    assert timeline.collected_ns is None and list(folder.sql.iterdir())
    assert not processes_of(run.run_id)


def test_a_load_generator_that_dies_convicts_nobody_and_its_operations_are_kept(tmp_path: Path) -> None:
    run = Watched(tmp_path, SMALL)
    assert wait_until(lambda: run.saw(r"load \d+/s"), 90), "".join(run.lines)
    family = psutil.Process(run.process.pid).children(recursive=True)
    load = [p for p in family if "harness.load.child" in p.cmdline()]
    assert load, "load is sent"
    load[0].kill()
    assert ends(run, 90) == 3, "".join(run.lines)
    assert run.saw("the load generator ended before its time, exit code -9: the run ends early"), run.lines
    folder = RunFolder.open(tmp_path / run.run_id)
    assert folder.operations.exists() and folder.read_timeline().collected_ns
    assert not processes_of(run.run_id)


def is_engine(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any("toxiproxy" in word for word in command) and any("port" in word for word in command)


def is_witness(process: psutil.Process, name: str) -> bool:
    try:
        return process.environ().get("PSP_NAME") == name
    except psutil.Error:
        return False
