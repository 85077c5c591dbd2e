"""A Docker engine of a test's own, which can be stopped, killed and given a full disk.

It stands in a network and a mount namespace of its own: its bridges, its rules and its mounts are nobody
else's, and its data lie in memory. So whoever talks to its containers must stand in that network, too:
``with engine.inside()``. The engine of the machine only gives copies of images.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import psutil
import pytest

from harness.target.docker.endpoint import HOST_VARIABLE, Docker, connect
from tests.docker_here import VARIABLE

PROGRAMS = ("dockerd", "containerd", "unshare", "nsenter", "setpriv", "ip", "mount")
MARK = "LEDGERQUAKE_TESTS_ENGINE"
DISK_BYTES = 600 << 20
START_S = 20.0
STOP_S = 30.0
CLONE_NEWNET = 0x40000000
CGROUPS = Path("/sys/fs/cgroup")


def private_engine(folder: Path) -> PrivateEngine:
    """A running one, empty; skips (or fails, where an engine is required) where there cannot be one."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    why = f"{', '.join(missing)} missing" if missing else "" if os.getuid() == 0 else "not root"
    if not why:
        try:
            return PrivateEngine(folder)
        except NamespacesRefused as refusal:
            why = str(refusal)
    if os.environ.get(VARIABLE) == "required":
        pytest.fail(f"{VARIABLE}=required, but no engine of a test's own: {why}")
    pytest.skip(f"no Docker engine of a test's own: {why}")


class NamespacesRefused(Exception):
    """This machine does not let us have a network or a mount of our own."""


class PrivateEngine:
    """``folder`` is empty and outlives it. Ended by ``close``, and with the thread that made it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._data.mkdir()
        self._mark = f"{folder.name}-{os.getpid()}"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._holder = self._make_namespaces()
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"unix://{self._folder}/docker.sock"

    def _make_namespaces(self) -> subprocess.Popen[str]:
        """A process that does nothing but hold them."""
        steps = (
            f"ip link set lo up && mount -t tmpfs -o size={DISK_BYTES} data {self._data} && echo up "
            "&& exec sleep infinity"
        )
        holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c", steps],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != "up\n":
            raise NamespacesRefused(holder.stderr.read().strip())
        return holder

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and whatever it starts, stands in its network and takes it for *the* engine."""
        before = os.environ.get(HOST_VARIABLE)
        with open("/proc/thread-self/ns/net") as outer, open(f"/proc/{self._holder.pid}/ns/net") as inner:
            _enter_network(inner.fileno())
            os.environ[HOST_VARIABLE] = self.url
            try:
                yield
            finally:
                _enter_network(outer.fileno())
                os.environ.pop(HOST_VARIABLE)
                if before is not None:
                    os.environ[HOST_VARIABLE] = before

    @property
    def alive(self) -> bool:
        return self._daemon is not None and self._daemon.poll() is None

    # --- its life -------------------------------------------------------------------------------
    def start(self) -> None:
        """Returns when it answers."""
        options = {
            "--data-root": self._data,
            "--exec-root": self._folder / "exec",
            "--pidfile": self._folder / "pid",
            "--host": self.url,
            "--bridge": "none",
            "--cgroup-parent": f"/{self._mark}",
        }
        enter = ["nsenter", "--target", str(self._holder.pid), "--net", "--mount"]
        with (self._folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*("setpriv", "--pdeathsig", "TERM"), *enter, "dockerd", *_flat(options)],
                stdout=log,
                stderr=log,
                env={**os.environ, MARK: self._mark},
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(docker.errors.DockerException):
            docker.APIClient(base_url=self.url, version="auto").close()
            return True
        return False

    def stop(self) -> None:
        """As a service manager does it: containers end, too."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """In the middle of whatever it does: its containers run on."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        assert self._daemon is not None
        below = psutil.Process(self._daemon.pid).children()
        self._daemon.send_signal(number)
        self._daemon.wait(STOP_S)
        psutil.wait_procs(below, STOP_S)  # its containerd: a new one would take it for its own

    def docker(self) -> Docker:
        return connect(self.url)

    # --- what it holds --------------------------------------------------------------------------
    def load(self, images: Sequence[str], source: Docker) -> None:
        """Copies of images of another engine; returns when they are there."""
        params = {"names": list(images)}  # all at once: what they share comes once
        with source.api.get(f"{source.api.base_url}/images/get", params=params, stream=True) as together:
            said = list(self.docker().api.load_image(together.raw))  # to its end: it answers from the start
        problems = [line["error"] for line in said if "error" in line]
        assert not problems, problems

    @contextmanager
    def full(self, but_bytes: int = 0) -> Iterator[None]:
        """Its disk has no more room than ``but_bytes``."""
        place = self.on_its_disk("filler")
        try:
            with place.open("wb") as filler:
                room = os.fstatvfs(filler.fileno())
                os.posix_fallocate(filler.fileno(), 0, room.f_bavail * room.f_frsize - but_bytes)
            yield
        finally:
            place.unlink()

    def on_its_disk(self, name: str) -> Path:
        """A place there, as seen from outside its namespaces."""
        return Path(f"/proc/{self._holder.pid}/root{self._data}") / name

    def close(self) -> None:
        """Ends it with everything it started. Idempotent."""
        if self.alive:
            self.stop()
        for process in self._processes():
            with suppress(psutil.Error):
                process.kill()
        self._holder.kill()
        self._holder.communicate()
        for controller in CGROUPS.iterdir():
            for group in sorted((controller / self._mark).rglob("*"), reverse=True):
                with suppress(OSError):
                    group.rmdir()
            with suppress(OSError):
                (controller / self._mark).rmdir()

    def _processes(self) -> list[psutil.Process]:
        """What carries its mark, and what is below that: an engine that was killed leaves both behind."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark:
                    found.update({one.pid: one for one in [process, *process.children(recursive=True)]})
        return list(found.values())


def _enter_network(descriptor: int) -> None:
    """This thread only; its children inherit it."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _flat(options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (name, str(value))]
