"""A Toxiproxy engine as a child process that is known to be ours.

A second Toxiproxy on a busy port logs an error and stays alive, so a living child and an answering
API do not prove that the two belong together: the listening socket must be held by our child.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Protocol

import psutil

from harness.errors import EnvironmentBroken, LinkError
from harness.spawn import Child, Spawner
from harness.toxiproxy.client import Client
from harness.toxiproxy.find import EngineChoice, find_engine

__all__ = ["Engine", "EngineChoice", "EngineHandle", "RunningEngine", "find_engine"]

HOST = "127.0.0.1"
START_TIMEOUT_S = 15.0
STOP_GRACE_S = 3.0


class EngineHandle(Protocol):
    """What the link layer needs of an engine, however it runs (a process, a container)."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    def restart(self) -> None:
        """Kill it, whatever state it is in, and have it answering again, empty. Raises EnvironmentBroken."""
        ...


class RunningEngine(EngineHandle, Protocol):
    """An engine as the run that started it sees it."""

    @property
    def label(self) -> str:
        """For reports: which engine, which release."""
        ...

    @property
    def log(self) -> Path: ...

    def alive(self) -> bool:
        """Whether it runs; while it is being replaced it counts as alive."""
        ...

    def fallen(self) -> int | None:
        """The exit code of one that ended uninvited; None while it lives or is being replaced."""
        ...

    def stop(self) -> None:
        """End it for good. Idempotent."""
        ...


class Engine:
    """A running engine. ``version`` is the release, not what the API says of itself."""

    def __init__(self, choice: EngineChoice, spawner: Spawner, log: Path, port: int) -> None:
        self.choice = choice
        self.host = HOST
        self.port = port
        self.log = log
        self._spawner = spawner
        self._child: Child | None = None
        self._stopped = False
        self._being_replaced = False

    @classmethod
    def start(cls, choice: EngineChoice, spawner: Spawner, log: Path, *, port: int) -> Engine:
        """Start it on loopback and wait until its API answers. Raises EnvironmentBroken."""
        engine = cls(choice, spawner, log, port)
        engine._launch()
        return engine

    @property
    def version(self) -> str:
        return self.choice.version

    @property
    def label(self) -> str:
        return self.choice.label

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def alive(self) -> bool:
        """Whether it runs. While it is being replaced it counts as alive: that is reported by whoever
        asked for it. Costs nothing; does not see one that hangs (a request does)."""
        if self._being_replaced:
            return True
        return self._child is not None and self._child.poll() is None

    def fallen(self) -> int | None:
        """The exit code of an engine that ended uninvited; None while it lives or is being replaced."""
        child = self._child
        return child.poll() if child is not None and not self._being_replaced else None

    def stop(self) -> None:
        """End it, kindly first, for good. Idempotent."""
        self._stopped = True
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return
        child.signal(signal.SIGTERM)
        if child.wait(STOP_GRACE_S) is None:
            child.signal(signal.SIGKILL)
            child.wait(STOP_GRACE_S)

    def restart(self) -> None:
        """SIGKILL (it may hang) and start again on the same port. All its state is gone."""
        if self._stopped:
            raise EnvironmentBroken("the Toxiproxy engine was stopped already, so it is not started again")
        self._being_replaced = True
        try:
            child, self._child = self._child, None  # from here on its end is ours, and not a fall
            if child is not None:
                child.signal(signal.SIGKILL)
                if child.wait(STOP_GRACE_S) is None:
                    raise EnvironmentBroken(f"the Toxiproxy engine (pid {child.pid}) survived SIGKILL")
            self._launch()
        finally:
            self._being_replaced = False

    def _launch(self) -> None:
        argv = [*self.choice.argv, *_address(self.choice, self.port)]
        self._child = self._spawner.spawn(
            "toxiproxy", argv, env=_environment(), cwd=self.log.parent, log=self.log
        )
        try:
            self._wait_until_ours(self._child)
        except EnvironmentBroken:
            self.stop()
            raise

    def _wait_until_ours(self, child: Child) -> None:
        started = time.monotonic()
        while time.monotonic() - started < START_TIMEOUT_S:
            if (code := child.poll()) is not None:
                raise self._broken(f"ended at once with exit code {code}")
            if listens(child.pid, self.port):
                self._ask_version()
                return
            if _somebody_listens(self.port) and not listens(child.pid, self.port):
                raise self._broken(f"could not have port {self.port}: another process listens there")
            time.sleep(0.01)
        raise self._broken(f"did not listen on port {self.port} within {START_TIMEOUT_S:.0f} s")

    def _ask_version(self) -> None:
        try:
            Client(self.host, self.port, START_TIMEOUT_S).version()
        except LinkError as error:
            raise self._broken(f"listens but does not answer: {error}") from error

    def _broken(self, what: str) -> EnvironmentBroken:
        said = self.log.read_text(errors="replace")[-600:].strip() if self.log.exists() else ""
        return EnvironmentBroken(
            f"the Toxiproxy engine ({self.label}) {what}; its log ends: {said or '(empty)'}"
        )


def listens(pid: int, port: int) -> bool:
    """Whether this process, or one it started, holds the listening socket of ``port``."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        sockets = [held for member in family for held in member.net_connections(kind="tcp")]
    except psutil.NoSuchProcess:
        return False
    return any(held.status == psutil.CONN_LISTEN and held.laddr.port == port for held in sockets)


def _somebody_listens(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        caller.settimeout(1)
        return caller.connect_ex((HOST, port)) == 0


def _address(choice: EngineChoice, port: int) -> tuple[str, ...]:
    dash = "-" if choice.kind == "server" else "--"
    return (f"{dash}host", HOST, f"{dash}port", str(port))


def _environment() -> dict[str, str]:
    """Only what an engine needs; the package's own place, for the built-in one."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "SYSTEMROOT") if key in os.environ}
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return {**kept, "PYTHONUNBUFFERED": "1", "LOG_LEVEL": "warn"}
