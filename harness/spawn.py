"""The one way a child process comes into the world.

Rooms that need a process (a Toxiproxy engine, the load generator, a service) are handed a
``Spawner``. In a run it is the supervisor of ``harness.target``, which cannot lose a child; a test
may pass ``LocalSpawner``. Only protocols and this plain implementation live here.
"""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.errors import EnvironmentBroken

FEWEST_OPEN_FILES = 4096  # a link engine holds two for each connection, and outages make many


def open_files() -> int:
    """How many files a process here may have open, if it asks for all it may."""
    return _counted(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def allow_open_files() -> None:
    """Let this process and its children open as many files as they may: shells often say 1024.

    A link engine or a load generator out of files looks just like a system that is down. Raises
    EnvironmentBroken when even the hard limit is too low.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if _counted(most) < FEWEST_OPEN_FILES:
        raise EnvironmentBroken(
            f"processes may open at most {most} files here (hard limit), {FEWEST_OPEN_FILES} are needed",
            hint="raise it as root: `ulimit -Hn`, limits.conf, or the container's --ulimit nofile",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _counted(limit: int) -> int:
    return 1 << 30 if limit == resource.RLIM_INFINITY else limit


class Child(Protocol):
    """A process that was spawned. ``pid`` is its process id."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Exit code (negative: the signal that ended it), or None while it lives."""
        ...

    def signal(self, number: int) -> None:
        """Send a signal; silently nothing when the process has gone."""
        ...

    def wait(self, timeout_s: float) -> int | None:
        """Exit code, or None when it still lives after ``timeout_s``."""
        ...


class Spawner(Protocol):
    """Starts processes and is answerable for their end."""

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> Child:
        """Start ``argv`` with exactly ``env``; standard output and error append to ``log``."""
        ...


class LocalChild:
    """A child of this very process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


class LocalSpawner:
    """Plain ``subprocess``; ``close`` kills what is left. For tests and small tools."""

    def __init__(self) -> None:
        self._children: list[LocalChild] = []

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
    ) -> LocalChild:
        with log.open("ab") as sink:
            child = LocalChild(
                subprocess.Popen(
                    list(argv),
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                )
            )
        self._children.append(child)
        return child

    def close(self) -> None:
        for child in self._children:
            child.signal(signal.SIGKILL)
            child.wait(5)
