"""What faults on one service share: whom they hit, and what is to be seen of its processes.

A service may be named by a role (``db-primary``); it is resolved at the instant of injection.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import ClassVar

import requests

from harness.evidence.healing import Healing, HealingAction
from harness.experiment.target import Frozen, TargetSpec
from harness.fault.base import Context, Fault, known
from harness.fault.selection import refuse_witnesses, service_of
from harness.out_of_band import ask
from harness.target.readiness import ask as ask_endpoint

DOWN = ("dead", "stopped")
POLL_S = 0.05


class OnService(Frozen):
    """``service``: a service of the target, or a role resolved at injection."""

    service: str


class OneService(Fault[OnService]):
    """One service is hit (``strike``) and put right by one healing (``undone_by``)."""

    family = "lifecycle"
    Params: ClassVar[type[Frozen]] = OnService
    undone_by: ClassVar[HealingAction] = "start_service"
    service: str = ""

    @abstractmethod
    def strike(self) -> None:
        """Hit ``self.service``; how it was before is noted already."""

    def healings(self) -> tuple[Healing, ...]:
        return (Healing(action=self.undone_by, args={"service": self.resolve()}),)

    def inject(self) -> None:
        self.note_before()
        self.strike()

    def recovered(self) -> None:
        self.note_after()

    @classmethod
    def touches(cls, params: OnService, spec: TargetSpec) -> tuple[str, ...]:
        refuse_witnesses([params.service], spec)
        faultable = [name for name, service in spec.services.items() if not service.witness]
        return (known(params.service, "service or role", [*faultable, *spec.roles]),)

    def resolve(self) -> str:
        """The service meant, now. Raises EnvironmentBroken for a role that nobody holds."""
        self.service = service_of(self.params.service, self.context)
        self.seen["touched"] = (self.service,)
        return self.service

    def note_before(self) -> None:
        state = self.context.runtime.state(self.service)
        self.seen["pid_before"] = state.pid
        self.seen["incarnation_before"] = state.incarnation
        self.seen["status_before"] = state.status

    def still(self) -> None:
        """Somebody else, another fault or the target itself, may have ended it early."""
        state = self.context.runtime.state(self.service)
        self.seen["status_at_end"] = state.status
        self.seen["incarnation_at_end"] = state.incarnation

    def note_after(self) -> None:
        state = self.context.runtime.state(self.service)
        self.seen["pid_after"] = state.pid
        self.seen["incarnation_after"] = state.incarnation
        self.seen["status_after"] = state.status

    def gone(self) -> bool:
        """Whether the process that was there before has ended."""
        pid = self.seen["pid_before"]
        return pid is not None and not self.context.runtime.alive(pid)

    def was_running(self) -> bool:
        return bool(self.seen.get("status_before") == "running")

    def lasted(self, *statuses: str) -> bool:
        """It was the same life to the end, in one of these states."""
        same = self.seen.get("incarnation_at_end") == self.seen.get("incarnation_before")
        return same and self.seen.get("status_at_end") in statuses

    def at_end(self) -> str:
        """For people, where it did not last."""
        return f"{self.service} was {self.seen.get('status_at_end')} before it was healed"

    def same_life(self) -> bool:
        """The very process went on after the healing."""
        return self.seen.get("status_after") == "running" and all(
            self.seen.get(f"{what}_after") == self.seen.get(f"{what}_before")
            for what in ("incarnation", "pid")
        )

    def came_back(self) -> bool:
        return (
            self.seen.get("status_after") == "running"
            and self.seen["incarnation_after"] > self.seen["incarnation_before"]
            and self.seen["pid_after"] != self.seen["pid_before"]
        )


def can_be_asked(context: Context, service: str) -> bool:
    """Whether it has a readiness endpoint: another one cannot be seen to answer, or to be silent."""
    return context.spec.services[service].ready is not None


def answers(context: Context, service: str, timeout_s: float) -> bool:
    """Whether the service's readiness endpoint gives any answer, out of band."""
    ready = context.spec.services[service].ready
    if ready is None:
        return False
    url = f"http://{context.runtime.address(service, ready.port)}{ready.path}"
    try:
        ask(ready.method, url, timeout_s=timeout_s)
    except requests.RequestException:
        return False
    return True


def is_ready(context: Context, service: str) -> bool:
    """Whether its readiness endpoint answers 200, out of band."""
    ready = context.spec.services[service].ready
    return (
        ready is not None and ask_endpoint(context.runtime.address(service, ready.port), ready).status == 200
    )


def ready_within(context: Context, service: str, timeout_s: float) -> float | None:
    """Seconds until it was ready; None when it was not in that time."""
    started = time.monotonic()
    while not context.stopping():
        ready, took_s = is_ready(context, service), time.monotonic() - started
        if ready or took_s >= timeout_s:
            return round(took_s, 3) if ready else None
        context.sleep(POLL_S)
    return None


def wait_for_answer(context: Context, service: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not context.stopping():
        if answers(context, service, timeout_s=1):
            return True
        context.sleep(0.05)
    return False
