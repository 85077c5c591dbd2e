"""Services and witnesses of the billing stack as real processes, and a proxy that loses replies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

BILLING = Path(__file__).parents[2] / "targets" / "billing"


def eventually(what: str, holds: Callable[[], Any], *, within_s: float = 15.0) -> Any:
    """The first true value of ``holds``, or a failure that names what was awaited."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {within_s} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One service or witness; it keeps its port over restarts."""

    def __init__(self, module: str, folder: Path, port: int, **environment: str) -> None:
        self.module = module
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"{module}.log"
        path = f"{BILLING / 'services'}{os.pathsep}{BILLING}"
        nobody = {"CALLBACK_KEY": "no-secret", "CALLBACK_URL": "http://127.0.0.1:9"}
        own = {"LISTEN": self.url.removeprefix("http://"), "PYTHONPATH": path, **nobody}
        self._environment = {"PATH": os.environ["PATH"], **own, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module], env=self._environment, stdout=log, stderr=log
            )
        eventually(f"{self.module} is ready; it said:\n{self._log.read_text()[-2000:]}", self._ready)
        return self

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=1).status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    def lines(self) -> list[dict[str, Any]]:
        """A witness's log."""
        return [json.loads(line) for line in requests.get(f"{self.url}/log", timeout=5).text.splitlines()]


class Muffler:
    """A TCP proxy that can swallow replies: requests arrive, answers do not."""

    def __init__(self, upstream_port: int) -> None:
        self.mute = False
        self._upstream_port = upstream_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._upstream_port))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65536):
                if not (replies and self.mute):
                    sink.sendall(data)
        except OSError:
            pass  # one side has gone: so does the other
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def send(process: Process, path: str, body: dict[str, Any]) -> int | None:
    """The status, or None when nobody answered."""
    try:
        return requests.post(process.url + path, json=body, timeout=5).status_code
    except requests.RequestException:
        return None


def metrics(process: Process) -> dict[str, float]:
    return requests.get(f"{process.url}/metrics", timeout=5).json()


Launcher = Callable[..., Process]
