"""However the harness dies, nothing of its run is left: no process, no port, no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.run.cleanup import cleanup
from harness.target import scratch
from harness.target.docker.sweep import things_of
from harness.target.supervisor import Supervisor
from tests.docker_here import docker_here

HARNESS = Path(__file__).parent / "dying_harness.py"
ROOT = Path(__file__).parents[3]
PHASES = ("supervised", "preparing", "prepared", "deploying", "deployed", "tearing down")
WITHIN_S = {"process": 5.0, "docker": 15.0}
pytestmark = pytest.mark.xdist_group("docker")  # cleaning up meets nobody else's containers


@pytest.fixture(params=list(WITHIN_S))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that cleaning up touches no run but those of this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def processes_of(run_id: str) -> list[psutil.Process]:
    """Everything that carries the run's mark, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LEDGERQUAKE_RUN") == run_id:
                found.append(process)
        except psutil.Error:
            continue
    return found


def ports_of(processes: list[psutil.Process]) -> set[int]:
    """Ports that any of them listens on."""
    ports = set()
    for process in processes:
        try:
            ports.update(c.laddr.port for c in process.net_connections("tcp") if c.status == "LISTEN")
        except psutil.Error:
            continue
    return ports


def listening() -> set[int]:
    return {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"}


@contextmanager
def harness_in(run_id: str, phase: str, kind: str = "process") -> Iterator[subprocess.Popen[str]]:
    """A harness that has reached a phase; killed at the end in any case."""
    process = subprocess.Popen(
        [sys.executable, str(HARNESS), kind, run_id, phase],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == phase
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def gone(run_id: str, folder: Path, kind: str = "process") -> bool:
    if kind == "docker" and list(things_of(docker_here(), run_id)):
        return False
    return not processes_of(run_id) and not folder.exists()


@pytest.mark.parametrize("phase", PHASES)
def test_kill_9_of_the_harness_leaves_nothing(kind: str, phase: str) -> None:
    if kind == "docker":
        docker_here()
    run_id = f"dying-{uuid.uuid4().hex[:6]}-{phase.replace(' ', '-')}"
    folder = scratch.scratch_folder(run_id)
    with harness_in(run_id, phase, kind) as harness:
        ports = ports_of(processes_of(run_id))
        harness.kill()
        harness.wait()
        deadline = time.monotonic() + WITHIN_S[kind]
        while not gone(run_id, folder, kind):
            assert time.monotonic() < deadline, (processes_of(run_id), list(folder.rglob("*")))
            time.sleep(0.05)
    assert not ports & listening()
    assert not folder.parent.exists()
    assert cleanup() == []


def test_modules_in_the_callers_folder_do_not_get_in_the_way(tmp_path: Path) -> None:
    """What removes containers is started in the folder of whoever ran the harness."""
    docker_here()
    for name in ("docker", "harness", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    run_id = f"dying-{uuid.uuid4().hex[:6]}"
    with working_in(tmp_path), harness_in(run_id, "deployed", "docker") as harness:
        harness.kill()
        harness.wait()
    deadline = time.monotonic() + WITHIN_S["docker"]
    while not gone(run_id, scratch.scratch_folder(run_id), "docker"):
        assert time.monotonic() < deadline, list(things_of(docker_here(), run_id))
        time.sleep(0.1)


def test_the_supervisor_does_not_hear_ctrl_c(tmp_path: Path) -> None:
    with Supervisor.start("deaf") as supervisor:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(supervisor.pid, number)
        child = supervisor.spawn(
            "one", ["sleep", "60"], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "log"
        )
        child.signal(signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM, "a service must hear what its supervisor does not"


def test_cleanup_finds_what_is_left_when_harness_and_supervisor_die_together() -> None:
    """Killed in one blow with every keeper, so that nobody is left who could clean up."""
    with harness_in("both", "deployed") as harness, Supervisor.start("living") as living:
        folder = scratch.scratch_folder("both")
        everybody = processes_of("both")
        guards = [process for process in everybody if process.name().startswith("lq ")]
        for process in [*guards, psutil.Process(harness.pid)]:
            process.suspend()
        orphan = orphan_of(everybody)
        for process in [psutil.Process(harness.pid), *guards]:
            process.kill()
        harness.wait()
        assert folder.exists() and orphan.is_running()
        lines = cleanup()
        assert f"folder {folder}" in lines
        assert f"process {orphan.pid} of run both" in lines
        assert gone("both", folder)
        assert living.alive and living.scratch.exists()
        assert cleanup() == []


def test_cleanup_removes_the_containers_of_a_dead_run_and_no_others(bystander: str) -> None:
    """Harness and supervisor are killed in one blow; another run lives, and so does a stranger."""
    dead, living = f"dead-{uuid.uuid4().hex[:6]}", f"living-{uuid.uuid4().hex[:6]}"
    engine = docker_here()
    with (
        harness_in(dead, "deployed", "docker") as harness,
        harness_in(living, "deployed", "docker") as other,
    ):
        theirs = set(things_of(engine, living))
        guards = [process for process in processes_of(dead) if process.name().startswith("lq ")]
        for process in [psutil.Process(harness.pid), *guards]:
            process.suspend()
        for process in [psutil.Process(harness.pid), *guards]:
            process.kill()
        harness.wait()
        left = [f"{thing} of run {dead}" for thing in things_of(engine, dead)]
        assert len(left) == 9, "three services and the proxies, four networks, one volume"
        assert set(left) <= set(cleanup())
        assert gone(dead, scratch.scratch_folder(dead), "docker")
        assert set(things_of(engine, living)) == theirs and other.poll() is None
        assert engine.api.inspect_container(bystander)["State"]["Running"]
        assert cleanup() == []
        other.kill()
        deadline = time.monotonic() + WITHIN_S["docker"]
        while not gone(living, scratch.scratch_folder(living), "docker"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def orphan_of(everybody: list[psutil.Process]) -> psutil.Process:
    """One that the kernel's parent-death signal does not reach: forked off by a service, after its main."""
    front = [process for process in everybody if process.environ().get("LEDGERQUAKE_SERVICE") == "front"]
    return max(front, key=lambda process: process.create_time())


def test_cleanup_says_what_it_could_not_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = scratch.scratch_folder("stuck")
    folder.parent.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    os.utime(folder, (0, 0))

    def refuse(path: Path, *_: Any) -> None:
        raise PermissionError(13, "not today", str(path))

    monkeypatch.setattr(scratch.shutil, "rmtree", refuse)
    with pytest.raises(Exception, match=r"could not remove: folder .*stuck.*not today"):
        cleanup()


def test_a_scratch_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    scratch.base_folder().mkdir(mode=0o755)
    with pytest.raises(Exception, match="mode 0700"):
        Supervisor.start("intruder")


def test_one_run_id_cannot_be_used_twice() -> None:
    with Supervisor.start("twin") as first:
        with pytest.raises(Exception, match=r"did not start: .*exists"):
            Supervisor.start("twin")
        assert first.alive and first.scratch.exists()
