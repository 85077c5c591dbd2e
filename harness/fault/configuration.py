"""A wrong setting: a service started anew with other values than the target's own, later with the right ones.

Proof is a process that really holds the wrong values and is unwell for longer than a well one takes to get
ready, and after the healing another one that holds the right ones and is ready. No value is put on record:
they may be secrets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, StrictStr

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.names import suggestion
from harness.experiment.target import Frozen, Service, TargetSpec
from harness.experiment.vocabulary import HEALING_S, Lives
from harness.fault.base import Duration
from harness.fault.lifecycle import Restart, RestartParams
from harness.fault.one_service import OnService, can_be_asked, is_ready, ready_within
from harness.fault.selection import holders_of
from harness.target.rewrite import OWN_HOST, addresses, link_between

LEAST_S = 3.0  # a well process is ready within a second or two, and it must be seen not to be
LOOK_S = 0.2
END_S = 0.5  # before the healing, for the last look
READY_S = 20.0
_AUTHORITY = re.compile(r"://([^/\s?#]*)")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9][\w.-]*:\d{1,5}")


class BadConfigParams(RestartParams):
    """``environment``: variable -> wrong value, of those that the service declares.

    ``seen``: ``unready`` demands that it never gets ready with them; ``running`` is for settings that do not
    show in its readiness: that it runs with them to the end is all that is seen then.
    """

    environment: dict[str, StrictStr] = Field(min_length=1)
    seen: Literal["unready", "running"] = "unready"


class BadConfig(Restart):
    """A service is started anew with wrong settings, and at the healing with the right ones."""

    name = "bad_config"
    family = "operations"
    duration: ClassVar[Duration] = "required"
    Params: ClassVar[type[Frozen]] = BadConfigParams
    params: BadConfigParams

    @classmethod
    def touches(cls, params: OnService, spec: TargetSpec) -> tuple[str, ...]:
        assert isinstance(params, BadConfigParams)
        touched = super().touches(params, spec)
        for name in holders_of(params.service, spec):
            _check(params, spec.services[name], spec)
        return touched

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        assert isinstance(params, BadConfigParams)
        unwell = (
            "is not ready to the end, for longer than a well one takes" if _unready(params) else "runs on"
        )
        return (
            f"another process of {params.service} comes that holds the wrong {', '.join(params.environment)} "
            f"and {unwell}; after the healing another one that holds the right values and is ready"
        )

    @classmethod
    def lives(cls, params: Any) -> Lives | None:
        return "replaced"

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        return LEAST_S

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        """It is stopped within its ``for``, and stopped again when it is healed."""
        grace_s = float(params.grace)
        return max(0.0, grace_s - (for_s or 0.0)) + grace_s + HEALING_S

    def healings(self) -> tuple[Healing, ...]:
        args: dict[str, str | int | float] = {"service": self.resolve(), "grace_s": self.params.grace}
        return (Healing(action="restore_environment", args=args),)

    def strike(self) -> None:
        runtime = self.context.runtime
        self.seen["can_be_asked"] = can_be_asked(self.context, self.service)
        self.seen["ready_before"] = is_ready(self.context, self.service)
        self._right = self._values(runtime.environment(self.service))
        super().strike()
        self._wrong = self._values(runtime.reconfigure(self.service, self.params.environment))
        self.seen["differ"] = all(self._wrong[name] != right for name, right in self._right.items())
        runtime.start(self.service)
        state = runtime.state(self.service)
        self.seen["pid_during"] = state.pid
        self.seen["incarnation_during"] = state.incarnation

    def _values(self, environment: Mapping[str, str]) -> dict[str, str | None]:
        """Of the variables that are meant."""
        return {name: environment.get(name) for name in self.params.environment}

    def observe(self) -> None:
        """To the end: it must not get ready late either."""
        self.seen["ready_during"] = False
        self._note_environment("during", self._wrong)
        while not self._look() and self.seconds_left() > END_S and not self.context.stopping():
            self.context.sleep(LOOK_S)

    def _look(self) -> bool:
        """Whether it was ready, now or before."""
        self.seen["ready_during"] = self.seen["ready_during"] or is_ready(self.context, self.service)
        return bool(self.seen["ready_during"])

    def still(self) -> None:
        super().still()
        self._look()
        self._note_environment("at_end", self._wrong)
        self.seen["lasted_s"] = self._age_s()

    def recovered(self) -> None:
        in_time = self.seen["can_be_asked"] and ready_within(self.context, self.service, READY_S) is not None
        self.seen["ready_in_s"] = self._age_s() if in_time else None
        super().recovered()
        self._note_environment("after", self._right)

    def _note_environment(self, when: str, expected: Mapping[str, str | None]) -> None:
        """Whether it holds these values now; not what they are."""
        runtime = self.context.runtime
        runs = runtime.state(self.service).status == "running"
        self.seen[f"holds_{when}"] = runs and self._values(runtime.environment(self.service)) == expected

    def _age_s(self) -> float | None:
        """Of its process; how long it has been up."""
        started_ns = self.context.runtime.state(self.service).started_ns
        return None if started_ns is None else round((time.time_ns() - started_ns) / 1e9, 3)

    # --- what it proves -------------------------------------------------------------------------
    def proof(self) -> Proof:
        why_not = self._not_replaced() or self._not_wrong() or self._not_unwell() or self._not_right_again()
        text = why_not or (
            f"process {self.seen['pid_before']} of {self.service} {self.how_it_ended()}; "
            f"process {self.seen['pid_during']} held the wrong {', '.join(self.params.environment)} "
            f"{self._unwell()}; process {self.seen['pid_after']} came with the right values{self._well()}"
        )
        return Proof(proved=why_not is None, text=text, observed=dict(self.seen))

    def _not_replaced(self) -> str | None:
        if not self.was_running():
            return f"{self.service} was {self.seen.get('status_before')} before"
        if not (self.seen.get("gone") and self.ended_as_asked()):
            return f"process {self.seen.get('pid_before')} of {self.service} did not end as it was asked to"
        if not self._newer("during", "before"):
            return f"no other process of {self.service} came"
        return None

    def _not_wrong(self) -> str | None:
        if not self.seen.get("differ"):
            return f"{self.service} had these values already"
        if not self.seen.get("holds_during"):
            return f"the process of {self.service} does not hold the wrong values"
        same = self.seen.get("incarnation_at_end") == self.seen["incarnation_during"]
        if not same or self.seen.get("status_at_end") != "running":
            return self.at_end()
        return None if self.seen.get("holds_at_end") else f"{self.service} did not hold them to the end"

    def _not_unwell(self) -> str | None:
        if not _unready(self.params):
            return None
        if not self.seen.get("ready_before"):
            return f"{self.service} was not ready before either"
        if self.seen.get("ready_during") is not False:
            return f"{self.service} was ready with the wrong values, too"
        lasted_s, ready_in_s = self.seen.get("lasted_s"), self.seen.get("ready_in_s")
        if lasted_s is None or (ready_in_s is not None and lasted_s <= ready_in_s):
            return (
                f"{self.service} had {lasted_s} s to get ready with the wrong values, and takes "
                f"{ready_in_s} s with the right ones: its `for` is too short to tell"
            )
        return None

    def _not_right_again(self) -> str | None:
        if not (self.seen.get("status_after") == "running" and self._newer("after", "during")):
            return f"no other process of {self.service} runs after the healing"
        if not self.seen.get("holds_after"):
            return f"{self.service} does not hold the right values after the healing"
        if self.seen.get("can_be_asked") is not False and self.seen.get("ready_in_s") is None:
            return f"{self.service} was not ready within {READY_S:g} s after the healing"
        return None

    def _newer(self, one: str, other: str) -> bool:
        """Another process, of a later life."""
        pid, life = self.seen.get(f"pid_{one}"), self.seen.get(f"incarnation_{one}") or 0
        other_life = self.seen.get(f"incarnation_{other}") or 0
        return pid not in (None, self.seen.get(f"pid_{other}")) and life > other_life

    def _unwell(self) -> str:
        lasted = f"for {self.seen.get('lasted_s')} s"
        return f"and was not ready {lasted}" if _unready(self.params) else f"and ran {lasted}"

    def _well(self) -> str:
        return f", ready after {self.seen['ready_in_s']} s" if self.seen.get("can_be_asked") else ""


def _unready(params: BadConfigParams) -> bool:
    return params.seen == "unready"


# --- what cannot be right, known before anything runs -------------------------------------------
def _check(params: BadConfigParams, service: Service, spec: TargetSpec) -> None:
    """Raises ValueError with what is wrong, and what would be right."""
    if _unready(params) and service.ready is None:
        raise ValueError(
            f"{service.name!r} has no readiness endpoint, so it cannot be seen to be unready; seen: running"
        )
    whose = "it" if params.service == service.name else f"{service.name}, which may hold that role,"
    for name, value in params.environment.items():
        if name not in service.environment:
            hint = suggestion(name, service.environment)
            raise ValueError(f"environment: {whose} declares no {name}; {hint}")
        if value == service.environment[name]:
            raise ValueError(f"environment: {name} of {whose} is {value!r} already: that would not be wrong")
        if why_not := _leads_out(value, service, spec):
            raise ValueError(f"environment: {name} cannot be {value!r}: {why_not}")


def _leads_out(value: str, service: Service, spec: TargetSpec) -> str | None:
    """Why a value may lead to what is not of this run: as a process it is on this machine, like all else."""
    for name, port in addresses(value):
        if why_not := _stranger(name, port, service, spec):
            return why_not
    for authority in _AUTHORITY.findall(value):
        for host in authority.rpartition("@")[2].split(","):
            if _HOST_AND_PORT.fullmatch(host) is None:
                return f"{host!r} is no host with a port, and might be one outside; write <service>:<port>"
    mounts = service.volumes.values()
    if value.startswith("/") and not any(f"{value}/".startswith(f"{mount}/") for mount in mounts):
        where = f"write a path in {', '.join(mounts)}" if mounts else "it has none"
        return f"a path outside the service's volumes; {where}"
    return None


def _stranger(name: str, port: int, service: Service, spec: TargetSpec) -> str | None:
    if name == OWN_HOST:
        has = ", ".join(map(str, service.ports)) or "none"
        return None if port in service.ports else f"it exposes no port {port}, but {has}"
    if name not in spec.services:
        return (
            f"{name}:{port} is no service of the target, and might be something outside the run; write a "
            "service, and a port that is no declared link: nobody answers there"
        )
    links = [link for link in spec.links.values() if link.client == service.name]
    undeclared = link_between(spec, service.name, name, port) is None
    if undeclared and name in {link.server for link in links} and port in {link.port for link in links}:
        return (
            f"port {port} is that of another link of {service.name}, which it might reach; write another port"
        )
    return None
