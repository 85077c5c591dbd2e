"""The life cycle of services: crash, pause, restart, one by one.

Proof is a process that was there and is gone, or silent, and another one that came after it. What they
share stands in ``one_service.py``.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, TargetSpec
from harness.experiment.units import Seconds
from harness.experiment.vocabulary import HEALING_S, Lives, Names
from harness.fault.base import Duration, Fault
from harness.fault.healing import heal
from harness.fault.one_service import (
    DOWN,
    OneService,
    OnService,
    answers,
    can_be_asked,
    ready_within,
    wait_for_answer,
)
from harness.fault.selection import holders_of


class StopsService(OneService):
    """What the three share: another fault that needs the service to run on cannot be proved meanwhile."""

    @classmethod
    def lives(cls, params: Any) -> Lives | None:
        return "stopped"


class Crash(StopsService):
    """SIGKILL of the service and all its processes; started again when it is healed."""

    name = "crash"

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return f"the process of {params.service} is gone at once, and another one comes only by the healing"

    def strike(self) -> None:
        started = time.monotonic()
        self.context.runtime.kill(self.service)
        self.seen["killed_in_ms"] = round((time.monotonic() - started) * 1000, 1)

    def observe(self) -> None:
        self.seen["gone"] = self.gone()
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


class Pause(StopsService):
    """All its processes stand still (SIGSTOP or the freezer): alive, silent, its connections open."""

    name = "pause"
    undone_by = "resume_service"

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return (
            f"every process of {params.service} stands still, and it is silent though it answered before "
            "(where it has a readiness endpoint to ask)"
        )

    def strike(self) -> None:
        self.seen["can_be_asked"] = can_be_asked(self.context, self.service)
        if self.seen["can_be_asked"]:
            self.seen["answered_before"] = answers(self.context, self.service, timeout_s=1.0)
        self.context.runtime.pause(self.service)

    def observe(self) -> None:
        self.seen["stopped"] = self.context.runtime.stands_still(self.service)
        if self.seen["can_be_asked"]:
            self.seen["silent"] = not answers(self.context, self.service, timeout_s=self.patience_s(1.0))

    def still(self) -> None:
        super().still()
        self.seen["stopped_at_end"] = self.context.runtime.stands_still(self.service)

    def recovered(self) -> None:
        super().recovered()
        if self.seen.get("can_be_asked"):
            self.seen["answers_after"] = wait_for_answer(self.context, self.service, timeout_s=5)

    def proof(self) -> Proof:
        same = self.seen.get("pid_after") == self.seen.get("pid_before")
        proved = bool(
            self.was_running()
            and self.seen.get("stopped")
            and self._fell_silent()
            and self.lasted("paused")
            and self.seen.get("stopped_at_end")
            and same
        )
        text = (
            f"process {self.seen.get('pid_before')} of {self.service} "
            f"{'was stopped' if self.seen.get('stopped') else 'was NOT stopped'}{self._what_was_heard()}; "
            f"{'the same process went on' if same else 'another process came'}"
        )
        if not (self.lasted("paused") and self.seen.get("stopped_at_end")):
            text += f"; {self.at_end()}"
        return Proof(proved=proved, text=text, observed=dict(self.seen))

    def _fell_silent(self) -> bool:
        """Without an endpoint to ask, that its processes stand still is all there is to see."""
        if self.seen.get("can_be_asked") is False:
            return True
        return bool(self.seen.get("answered_before") and self.seen.get("silent"))

    def _what_was_heard(self) -> str:
        if self.seen.get("can_be_asked") is False:
            return " (it has no readiness endpoint, so nobody could hear whether it is silent)"
        heard = " and silent" if self.seen.get("silent") else " and still answered"
        return heard if self.seen.get("answered_before") else f"{heard}, but did not answer before either"


class RestartParams(OnService):
    """``grace``: how long it may drain after SIGTERM before SIGKILL."""

    grace: Seconds = 10.0


class Restart(StopsService):
    """SIGTERM, grace, start: measures the drain. With ``for``, it stays down that long."""

    name = "restart"
    duration: ClassVar[Duration] = "optional"
    Params: ClassVar[type[Frozen]] = RestartParams
    params: RestartParams

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        return 0.0  # it is seen when it has ended, however long `for` keeps it down

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        return max(0.0, float(params.grace) - (for_s or 0.0)) + HEALING_S  # it drains within its `for`

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return f"the process of {params.service} ends after SIGTERM or its grace, and another one comes"

    def strike(self) -> None:
        started = time.monotonic()
        self.seen["exit_code"] = self.context.runtime.stop(self.service, self.params.grace)
        self.seen["drain_s"] = round(time.monotonic() - started, 3)
        self.seen["gone"] = self.gone()

    def proof(self) -> Proof:
        proved = bool(
            self.was_running()
            and self.seen.get("gone")
            and self.ended_as_asked()
            and self.lasted(*DOWN)
            and self.came_back()
        )
        text = (
            f"process {self.seen.get('pid_before')} of {self.service} {self.how_it_ended()} "
            f"after {self.seen.get('drain_s')} s; process {self.seen.get('pid_after')} came"
        )
        if not self.lasted(*DOWN):
            text += f"; {self.at_end()}"
        return Proof(proved=proved, text=text, observed=dict(self.seen))

    def ended_as_asked(self) -> bool:
        """By itself, or killed once its grace was over; not by somebody else's SIGKILL."""
        code, took_s = self.seen.get("exit_code"), self.seen.get("drain_s") or 0.0
        return code is not None and (code != -signal.SIGKILL or took_s >= self.params.grace)

    def how_it_ended(self) -> str:
        code = self.seen.get("exit_code")
        if code == -signal.SIGKILL:
            return f"did not end by itself within {self.params.grace:g} s and was killed"
        return f"ended with code {code}"


class RollingRestartParams(Frozen):
    """``services``: services or roles, in this order. ``grace``: as for ``restart``.

    ``ready_within``: how long each may take until it is ready and the next one goes.
    """

    services: Names
    grace: Seconds = 10.0
    ready_within: Seconds = 30.0


class RollingRestart(Fault[RollingRestartParams]):
    """One service after another is restarted, each when the one before is ready again; ends by itself.

    It halts at one that does not get ready in its time: that fails the proof. So does a service that has two
    turns, because a role moved to it: another one has had none then.
    """

    name = "rolling_restart"
    family = "lifecycle"
    duration = "none"
    Params = RollingRestartParams

    @classmethod
    def touches(cls, params: RollingRestartParams, spec: TargetSpec) -> tuple[str, ...]:
        names = tuple(Restart.touches(OnService(service=name), spec)[0] for name in params.services)
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(f"services: {name!r} is named twice")
            for service in holders_of(name, spec):
                if spec.services[service].ready is None:
                    raise ValueError(
                        f"{name!r} has no readiness endpoint: nobody could tell when the next one may go"
                    )
        return names

    @classmethod
    def proof_needed(cls, params: RollingRestartParams) -> str:
        return (
            f"the process of each of {', '.join(params.services)} ends after SIGTERM or its grace, and one "
            f"comes that is ready within {params.ready_within:g} s, before the next one goes"
        )

    @classmethod
    def lives(cls, params: Any) -> Lives | None:
        return "stopped"

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        return len(params.services) * float(params.grace + params.ready_within) + HEALING_S

    def healings(self) -> tuple[Healing, ...]:
        """For all who may hold a role: who holds it when its turn comes is not known yet."""
        spec = self.context.spec
        holders = [service for name in self.params.services for service in holders_of(name, spec)]
        return tuple(_started(service) for service in dict.fromkeys(holders))

    def inject(self) -> None:
        self.seen["turns"] = turns = []
        for name in self.params.services:
            if self.context.stopping():
                return
            turns.append(turn := self._turn(name))
            self.seen["touched"] = tuple(one["service"] for one in turns)
            if turn["ready_in_s"] is None:
                return

    def _turn(self, name: str) -> dict[str, Any]:
        """Stop one, start it, wait until it is ready; what was seen of it."""
        one = self._restart(name)
        service = one.resolve()
        one.inject()
        one.still()
        heal(_started(service), self.context.runtime, self.context.links)
        ready_in_s = ready_within(self.context, service, self.params.ready_within)
        one.recovered()
        return {"service": service, "ready_in_s": ready_in_s, "seen": one.seen}

    def _restart(self, name: str) -> Restart:
        return Restart(self.id, RestartParams(service=name, grace=self.params.grace), self.context)

    def proof(self) -> Proof:
        turns = self.seen.get("turns", [])
        told = [self._told(turn) for turn in turns]
        missing = self.params.services[len(turns) :]
        if missing:
            told.append((False, f"{', '.join(missing)} had no turn"))
        turned = [turn["service"] for turn in turns]
        told += [(False, f"{name} had two turns") for name in dict.fromkeys(turned) if turned.count(name) > 1]
        text = "; ".join(text for _, text in told)
        return Proof(proved=all(proved for proved, _ in told), text=text, observed=dict(self.seen))

    def _told(self, turn: Mapping[str, Any]) -> tuple[bool, str]:
        """Whether this turn is proved, and what was seen, for people."""
        one = self._restart(turn["service"])
        one.service = turn["service"]
        one.seen = dict(turn["seen"])
        proof, ready_in_s = one.proof(), turn["ready_in_s"]
        if ready_in_s is None:
            return False, f"{proof.text}, and was not ready within {self.params.ready_within:g} s"
        return proof.proved, f"{proof.text}, ready after {ready_in_s:g} s"


def _started(service: str) -> Healing:
    return Healing(action="start_service", args={"service": service})
