"""The lives of a service: which process it was, when, and whether its end was asked for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from harness.evidence.model import Death
from harness.experiment.target import Service
from harness.spawn import Child
from harness.target.readiness import last_lines
from harness.target.runtime import ServiceState, Status


class Lived(Child, Protocol):
    """What has a beginning and an end: a process tree, a container from start to end.

    ``signal`` goes to its main process.
    """

    @property
    def ended_ns(self) -> int | None:
        """When its main process ended, epoch ns; None while it runs."""
        ...

    def kill_tree(self) -> None:
        """SIGKILL to all its processes; returns when they are gone. Raises EnvironmentBroken."""
        ...

    def pause_tree(self) -> None:
        """All its processes stand still. Standing still already is fine."""
        ...

    def resume_tree(self) -> None:
        """They go on. Not standing still is fine."""
        ...


ChildT = TypeVar("ChildT", bound=Lived)


@dataclass
class Life(Generic[ChildT]):
    """One incarnation. ``invited_ns``: when its end was asked for, by kill or stop."""

    number: int
    child: ChildT
    started_ns: int
    invited_ns: int | None = None
    stopped: bool = False
    paused: bool = False
    last_log: str | None = None

    @property
    def over(self) -> bool:
        return self.child.poll() is not None

    @property
    def uninvited_end(self) -> bool:
        """It ended, and before anybody asked for it."""
        if not self.over:  # asked first: a child may learn of its end by that
            return False
        ended_ns = self.child.ended_ns
        return ended_ns is not None and (self.invited_ns is None or ended_ns < self.invited_ns)

    @property
    def status(self) -> Status:
        if not self.over:
            return "paused" if self.paused else "running"
        return "stopped" if self.stopped and not self.uninvited_end else "dead"


@dataclass
class Managed(Generic[ChildT]):
    """A service with the command of its next start and all its lives so far.

    ``lock`` is held while its state is changed, so that two faults cannot start it twice.
    """

    spec: Service
    process: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    lives: list[Life[ChildT]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def running(self) -> Life[ChildT] | None:
        """The current life, paused or not."""
        return self.lives[-1] if self.lives and not self.lives[-1].over else None

    def begin(self, child: ChildT) -> None:
        """A new life; what the last one said at its end is kept before the log goes on."""
        self.lives.append(Life(len(self.lives) + 1, child, time.time_ns()))

    def keep_last_words(self) -> None:
        """Call before the log is written by a new life."""
        if self.lives and self.lives[-1].uninvited_end:
            self.lives[-1].last_log = last_lines(self.log)

    def state(self) -> ServiceState:
        if not self.lives:
            return ServiceState(self.spec.name, "stopped", None, None, 0)
        life = self.lives[-1]
        return ServiceState(
            self.spec.name, life.status, life.child.pid, life.started_ns, life.number, life.child.poll()
        )

    def deaths(self) -> list[Death]:
        """Its uninvited ends, oldest first."""
        return [
            Death(
                service=self.spec.name,
                at_ns=life.child.ended_ns or 0,
                exit_code=life.child.poll(),
                last_log=life.last_log if life.last_log is not None else last_lines(self.log),
            )
            for life in self.lives
            if life.uninvited_end
        ]
