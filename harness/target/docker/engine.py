"""The Toxiproxy engine in a container that stands in every network of the run.

Its API listens on one address only, in a network where nobody but the harness is: no service reaches it.
"""

from __future__ import annotations

import http.client
import time
from pathlib import Path

from harness.errors import EnvironmentBroken
from harness.target.docker import kernel
from harness.target.docker.container import Container, Seen
from harness.target.docker.images import EngineImage
from harness.target.docker.layout import LINK_ENGINE_PORT

START_TIMEOUT_S = 15.0
# A dead container answers no SYN, and the server dials within its accept loop: one dial that hangs holds up
# all who come after it, also when the upstream is back, until the kernel tries that SYN again (after up to
# 16 s, then 32 s). So a dial gives up after 2 to 3 s, and those who wait meanwhile are few: what became of
# nobody any more would be sent on in one burst.
SYSCTLS = {"net.ipv4.tcp_syn_retries": "1", "net.core.somaxconn": "128"}
ASK_TIMEOUT_S = 1.0


class ContainerEngine:
    """A running engine. Satisfies ``harness.toxiproxy.engine.RunningEngine``."""

    def __init__(self, container: Container, image: EngineImage, address: str, log: Path) -> None:
        self.host = address
        self.port = LINK_ENGINE_PORT
        self.container = container
        self._image = image
        self._log = log
        self._stopped = False
        self._being_replaced = False

    @property
    def label(self) -> str:
        return self._image.label

    @property
    def log(self) -> Path:
        """Brought up to date each time it is asked for."""
        if not self._stopped:
            self.keep_log()
        return self._log

    def keep_log(self) -> None:
        """Before its container goes."""
        if said := self.container.log():
            self._log.write_text(said, encoding="utf-8")

    def launch(self) -> None:
        """Start it and wait until its API answers. Raises EnvironmentBroken."""
        self.container.start()
        self._wait_until_answering()

    def alive(self) -> bool:
        """While it is being replaced it counts as alive: that is reported by whoever asked for it."""
        return self._being_replaced or self.container.look().status in ("running", "paused")

    def fallen(self) -> int | None:
        """The exit code of an engine that ended uninvited; None while it lives or is being replaced."""
        if self._being_replaced or self._stopped:
            return None
        seen = self.container.look()
        return None if seen.status in ("running", "paused") else seen.code

    def stop(self) -> None:
        """End it for good, its log kept. Idempotent."""
        if self._stopped:
            return
        try:
            self.container.kill()
            self.keep_log()
        finally:
            self._stopped = True

    def restart(self) -> None:
        """SIGKILL (it may hang) and start again at the same addresses. All its state is gone."""
        if self._stopped:
            raise EnvironmentBroken("the Toxiproxy engine was stopped already, so it is not started again")
        self._being_replaced = True
        try:
            self.container.kill()
            self.launch()
        finally:
            self._being_replaced = False

    def _wait_until_answering(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            seen = self.container.look()
            if seen.status != "running":
                raise self._broken(f"ended at once with exit code {seen.code}")
            if time.monotonic() > deadline:
                raise self._out_of_reach(seen)
            time.sleep(0.02)
        if not kernel.has_address(self.container.look().pid, self.host):
            raise self._elsewhere()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request("GET", "/version")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _out_of_reach(self, seen: Seen) -> EnvironmentBroken:
        if not kernel.has_address(seen.pid, self.host):
            return self._elsewhere()
        return self._broken(f"did not answer at {self.host}:{self.port} within {START_TIMEOUT_S:.0f} s")

    def _elsewhere(self) -> EnvironmentBroken:
        return EnvironmentBroken(
            f"the containers are out of reach: the one with {self.host} runs, but not on this machine",
            hint="run the harness where the containers run: not beside a rootless engine, one in a virtual "
            "machine or on another host; from within a container, with the host's network, processes and "
            "control groups. "
            "--runtime process needs no engine",
        )

    def _broken(self, what: str) -> EnvironmentBroken:
        said = self.container.log()[-600:].strip()
        return EnvironmentBroken(
            f"the Toxiproxy engine ({self.label}) {what}; its log ends: {said or '(empty)'}"
        )
