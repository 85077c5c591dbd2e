"""When containers ended: asked of the engine, for all of a run at once."""

from __future__ import annotations

import signal
import threading
import time

from harness.target.docker.container import Container, Seen
from harness.target.docker.endpoint import Docker, asking
from harness.target.docker.labels import RUN

FRESH_S = 0.1
UP = ("running", "paused")


class Roster:
    """Which containers of a run are up. One question to the engine serves all who ask within 0.1 s."""

    def __init__(self, docker: Docker, run_id: str) -> None:
        self._docker = docker
        self._run_id = run_id
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._up: frozenset[str] = frozenset()

    def is_up(self, id: str) -> bool:
        """False may be wrong about one that has just started: look at that one then."""
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at > FRESH_S:
                self._up, self._asked_at = self._ask(), now
            return id in self._up

    def _ask(self) -> frozenset[str]:
        with asking("list the run's containers"):
            found = self._docker.api.containers(all=True, filters={"label": f"{RUN}={self._run_id}"})
        return frozenset(one["Id"] for one in found if one["State"] in UP)


class Incarnation:
    """A container from one start to its end. Satisfies ``harness.target.lives.Lived``."""

    def __init__(self, container: Container, begun: Seen, roster: Roster) -> None:
        self.container = container
        self.pid = begun.pid
        self.ended_ns: int | None = None
        self.out_of_memory = False
        self._started_ns = begun.started_ns
        self._roster = roster
        self._code: int | None = None
        self.note(begun)

    def poll(self) -> int | None:
        if self._code is None and not self._roster.is_up(self.container.id):
            self.note(self.container.look())
        return self._code

    def wait(self, timeout_s: float) -> int | None:
        if (seen := self.container.wait_ended(timeout_s)) is not None:
            self.note(seen)
        return self._code

    def signal(self, number: int) -> None:
        self.container.signal(signal.Signals(number).name)

    def kill_tree(self) -> None:
        self.note(self.container.kill())

    def pause_tree(self) -> None:
        self.container.pause()

    def resume_tree(self) -> None:
        self.container.resume()

    def note(self, seen: Seen) -> None:
        """It was looked at; one that somebody else has started again has ended, too."""
        if self._code is not None or (seen.status in UP and seen.started_ns == self._started_ns):
            return
        self.out_of_memory = seen.out_of_memory
        self.ended_ns = seen.ended_ns or time.time_ns()
        self._code = -signal.SIGKILL if seen.code is None else seen.code
