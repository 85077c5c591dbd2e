"""The life cycle of services: crash, pause, restart.

Proof is a process that was there and is gone, or silent, and another one that came after it. A
service may be named by a role (``db-primary``); it is resolved at the instant of injection.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import psutil
import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, TargetSpec
from harness.experiment.units import Seconds
from harness.fault.base import HEALING_S, Context, Fault, known
from harness.out_of_band import ask

DOWN = ("dead", "stopped")


class OnService(Frozen):
    """``service``: a service of the target, or a role resolved at injection."""

    service: str


class OneService(Fault[OnService]):
    """What faults on one service share: whom they hit and what is to be seen of its process."""

    family = "lifecycle"
    Params = OnService
    service: str = ""

    @classmethod
    def touches(cls, params: OnService, spec: TargetSpec) -> tuple[str, ...]:
        faultable = [name for name, service in spec.services.items() if not service.witness]
        if params.service in spec.services and params.service not in faultable:
            raise ValueError(
                f"{params.service!r} is a witness: it stands outside; fault a link to it instead"
            )
        return (known(params.service, "service or role", [*faultable, *spec.roles]),)

    def resolve(self) -> str:
        """The service meant, now. A role nobody holds is an error, not a guess."""
        name = self.params.service
        if name in self.context.spec.roles:
            holder = self.context.runtime.role(name)
            if holder is None:
                raise EnvironmentBroken(f"nobody holds the role {name!r} now, so it cannot be faulted")
            name = holder
        self.service = name
        self.seen["touched"] = (name,)
        return name

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

    def was_running(self) -> bool:
        return bool(self.seen.get("status_before") == "running")

    def lasted(self, *statuses: str) -> bool:
        """It was the same life to the end, in one of these states."""
        same = self.seen.get("incarnation_at_end") == self.seen.get("incarnation_before")
        return same and self.seen.get("status_at_end") in statuses

    def at_end(self) -> str:
        """For people, where it did not last."""
        return f"{self.service} was {self.seen.get('status_at_end')} before it was healed"

    def came_back(self) -> bool:
        return (
            self.seen.get("status_after") == "running"
            and self.seen["incarnation_after"] > self.seen["incarnation_before"]
            and self.seen["pid_after"] != self.seen["pid_before"]
        )


class Crash(OneService):
    """SIGKILL of the service and all its processes; started again when it is healed."""

    name = "crash"

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return f"the process of {params.service} is gone at once, and another one comes only by the healing"

    def healings(self) -> tuple[Healing, ...]:
        return (Healing(action="start_service", args={"service": self.resolve()}),)

    def inject(self) -> None:
        self.note_before()
        started = time.monotonic()
        self.context.runtime.kill(self.service)
        self.seen["killed_in_ms"] = round((time.monotonic() - started) * 1000, 1)

    def observe(self) -> None:
        pid = self.seen["pid_before"]
        self.seen["gone"] = pid is not None and not alive(pid)
        self.seen["stayed_down"] = self.context.runtime.state(self.service).status in DOWN
        if self.params.service in self.context.spec.roles:
            self._watch_role()

    def _watch_role(self) -> None:
        """How long the role stood empty: a figure, not a condition; recovery is judged elsewhere."""
        started = time.monotonic()
        while self.seconds_left() > 0.5 and not self.context.stopping():
            holder = self.context.runtime.role(self.params.service)
            if holder not in (None, self.service):
                self.seen["role_taken_by"] = holder
                self.seen["role_empty_s"] = round(time.monotonic() - started, 2)
                self.context.say(f"{holder} is {self.params.service} now")
                return
            self.context.sleep(0.2)

    def recovered(self) -> None:
        self.note_after()

    def proof(self) -> Proof:
        proved = bool(
            self.was_running()
            and self.seen.get("gone")
            and self.seen.get("stayed_down")
            and self.lasted(*DOWN)
            and self.came_back()
        )
        text = (
            f"process {self.seen.get('pid_before')} of {self.service} "
            f"{'was gone' if self.seen.get('gone') else 'was NOT gone'} "
            f"after {self.seen.get('killed_in_ms')} ms; "
            f"process {self.seen.get('pid_after')} came after the healing"
        )
        if not self.lasted(*DOWN):
            text += f"; {self.at_end()}"
        if taken := self.seen.get("role_taken_by"):
            text += f"; {taken} took over after {self.seen['role_empty_s']} s"
        return Proof(proved=proved, text=text, observed=dict(self.seen))


class Pause(OneService):
    """SIGSTOP of all its processes: alive, silent, its connections open."""

    name = "pause"

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return f"every process of {params.service} stands still, and it is silent though it answered before"

    def healings(self) -> tuple[Healing, ...]:
        return (Healing(action="resume_service", args={"service": self.resolve()}),)

    def inject(self) -> None:
        self.note_before()
        self.seen["answered_before"] = answers(self.context, self.service, timeout_s=1.0)
        self.context.runtime.pause(self.service)

    def observe(self) -> None:
        self.seen["stopped"] = all_stopped(self.seen["pid_before"])
        self.seen["silent"] = not answers(
            self.context, self.service, timeout_s=min(1.0, self.seconds_left() / 2)
        )

    def still(self) -> None:
        super().still()
        self.seen["stopped_at_end"] = all_stopped(self.seen["pid_before"])

    def recovered(self) -> None:
        self.note_after()
        self.seen["answers_after"] = wait_for_answer(self.context, self.service, timeout_s=5)

    def proof(self) -> Proof:
        same = self.seen.get("pid_after") == self.seen.get("pid_before")
        proved = bool(
            self.was_running()
            and self.seen.get("answered_before")
            and self.seen.get("stopped")
            and self.seen.get("silent")
            and self.lasted("paused")
            and self.seen.get("stopped_at_end")
            and same
        )
        text = (
            f"process {self.seen.get('pid_before')} of {self.service} "
            f"{'was stopped' if self.seen.get('stopped') else 'was NOT stopped'} and "
            f"{'silent' if self.seen.get('silent') else 'still answered'}; "
            f"{'the same process went on' if same else 'another process came'}"
        )
        if not self.seen.get("answered_before"):
            text += "; it did not answer before it was paused either"
        if not (self.lasted("paused") and self.seen.get("stopped_at_end")):
            text += f"; {self.at_end()}"
        return Proof(proved=proved, text=text, observed=dict(self.seen))


class RestartParams(OnService):
    """``grace``: how long it may drain after SIGTERM before SIGKILL."""

    grace: Seconds = 10.0


class Restart(OneService):
    """SIGTERM, grace, start: measures the drain. With ``for``, it stays down that long."""

    name = "restart"
    duration = "optional"
    Params = RestartParams
    params: RestartParams

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        return 0.0  # it is seen when it has ended, however long `for` keeps it down

    @classmethod
    def longest_s(cls, params: Any) -> float:
        return float(params.grace) + HEALING_S

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return f"the process of {params.service} ends after SIGTERM or its grace, and another one comes"

    def healings(self) -> tuple[Healing, ...]:
        return (Healing(action="start_service", args={"service": self.resolve()}),)

    def inject(self) -> None:
        self.note_before()
        started = time.monotonic()
        self.seen["exit_code"] = self.context.runtime.stop(self.service, self.params.grace)
        self.seen["drain_s"] = round(time.monotonic() - started, 3)
        self.seen["gone"] = not alive(self.seen["pid_before"])

    def recovered(self) -> None:
        self.note_after()

    def proof(self) -> Proof:
        proved = bool(
            self.was_running()
            and self.seen.get("gone")
            and self._ended_as_asked()
            and self.lasted(*DOWN)
            and self.came_back()
        )
        text = (
            f"process {self.seen.get('pid_before')} of {self.service} {self._how_it_ended()} "
            f"after {self.seen.get('drain_s')} s; process {self.seen.get('pid_after')} came"
        )
        if not self.lasted(*DOWN):
            text += f"; {self.at_end()}"
        return Proof(proved=proved, text=text, observed=dict(self.seen))

    def _ended_as_asked(self) -> bool:
        """By itself, or killed once its grace was over; not by somebody else's SIGKILL."""
        code, took_s = self.seen.get("exit_code"), self.seen.get("drain_s") or 0.0
        return code is not None and (code != -signal.SIGKILL or took_s >= self.params.grace)

    def _how_it_ended(self) -> str:
        code = self.seen.get("exit_code")
        if code == -signal.SIGKILL:
            return f"did not end by itself within {self.params.grace:g} s and was killed"
        return f"ended with code {code}"


def alive(pid: int | None) -> bool:
    """Whether a process still runs; a zombie does not."""
    return pid is not None and process_status(pid) not in (None, psutil.STATUS_ZOMBIE)


def process_status(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def all_stopped(pid: int | None) -> bool:
    """Whether a process and all its children stand still."""
    if pid is None:
        return False
    try:
        main = psutil.Process(pid)
        family = [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return False
    return all(process_status(one.pid) in (psutil.STATUS_STOPPED, None) for one in family)


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


def wait_for_answer(context: Context, service: str, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not context.stopping():
        if answers(context, service, timeout_s=1):
            return True
        context.sleep(0.05)
    return False
