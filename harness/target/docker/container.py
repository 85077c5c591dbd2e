"""One container: made, started, looked at, ended. Answers of 304, 404 and 409 are states here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from docker.errors import APIError
from docker.types import LogConfig

from harness.errors import EnvironmentBroken
from harness.target.docker.endpoint import Docker, asking
from harness.target.runtime import Limits

CPU_PERIOD_US = 100_000
NO_MEMORY_LIMIT = 1 << 62  # a limit can be raised, not taken away
END_PATIENCE_S = 15.0
DYING_S = 1.0
POLL_S = 0.01
LOG_BYTES = "64m"
_NEVER = "0001-01-01"
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")

ContainerStatus = Literal["created", "running", "paused", "ended", "gone"]


@dataclass(frozen=True)
class Seen:
    """A container as the engine has it. ``pid`` is its main process, as this machine counts them."""

    status: ContainerStatus
    pid: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    code: int | None = None  # negative: the signal that ended it
    out_of_memory: bool = False


@dataclass(frozen=True)
class Plug:
    """A place in a network: address and names of the container there."""

    network: str
    address: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What a container is made from. It gets no capabilities, and can write to its volumes and /tmp only."""

    name: str
    image: str
    command: Sequence[str]
    hostname: str
    labels: Mapping[str, str]
    plugs: Sequence[Plug]
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)  # volume -> mount point
    limits: Limits = field(default_factory=Limits)
    read_only: bool = True
    init: bool = False
    user: str | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)  # of its own network namespace


class Container:
    """A container of this run. Not removed by itself: the sweep does that."""

    def __init__(self, docker: Docker, id: str, order: Order) -> None:
        self._docker = docker
        self.id = id
        self.order = order

    @classmethod
    def create(cls, docker: Docker, order: Order) -> Container:
        """Made and put into its networks, not started. Raises EnvironmentBroken."""
        api = docker.api
        with asking(f"make the container {order.name}"):
            made = api.create_container(
                order.image,
                list(order.command) or None,
                name=order.name,
                hostname=order.hostname,
                labels=dict(order.labels),
                environment=dict(order.environment),
                user=order.user,
                host_config=_host_config(docker, order),
                networking_config=_networking(docker, order.plugs[:1]),
            )
        container = cls(docker, made["Id"], order)
        for plug in order.plugs[1:]:
            container.plug_in(plug)
        return container

    def look(self) -> Seen:
        with asking(f"look at the container {self.order.name}"):
            try:
                state = self._docker.api.inspect_container(self.id)["State"]
            except APIError as refusal:
                if refusal.status_code == 404:
                    return Seen("gone")
                raise
        return _seen(state)

    def environment(self) -> dict[str, str]:
        """As the engine has it, with what the image adds."""
        with asking(f"look at the container {self.order.name}"):
            pairs = self._docker.api.inspect_container(self.id)["Config"]["Env"] or []
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def start(self) -> None:
        with asking(f"start the container {self.order.name}"):
            self._docker.api.start(self.id)

    def signal(self, name: str) -> None:
        """Nothing when it does not run. The engine lets a frozen container go on when it is signalled."""
        with asking(f"send {name} to the container {self.order.name}"):
            _unless(lambda: self._docker.api.kill(self.id, name), 404, 409)

    def kill(self) -> Seen:
        """SIGKILL to all its processes; returns when they are gone. Raises EnvironmentBroken."""
        self.signal("SIGKILL")
        seen = self.wait_ended(END_PATIENCE_S)
        if seen is None:
            raise EnvironmentBroken(
                f"the container {self.order.name} lives {END_PATIENCE_S:g} s after SIGKILL"
            )
        return seen

    def wait_ended(self, timeout_s: float) -> Seen | None:
        """How it ended; None when it has not after that time."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self.look()
            if seen.status in ("ended", "gone", "created"):
                return seen
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_S)

    def pause(self) -> None:
        """Frozen already is fine. Raises EnvironmentBroken when it ended meanwhile."""
        with asking(f"freeze the container {self.order.name}"):
            _unless(lambda: self._docker.api.pause(self.id), 409)
        self._must_be("paused", "freeze")

    def resume(self) -> None:
        """Not frozen is fine."""
        with asking(f"let the container {self.order.name} go on"):
            _unless(lambda: self._docker.api.unpause(self.id), 409, 500)

    def _must_be(self, status: ContainerStatus, what: str) -> None:
        """A 409 says that there was nothing to do, or that nothing can be done."""
        if (seen := self.look()).status != status:
            raise EnvironmentBroken(f"cannot {what} the container {self.order.name}: it is {seen.status}")

    def remove(self) -> None:
        with asking(f"remove the container {self.order.name}"):
            _unless(lambda: self._docker.api.remove_container(self.id, force=True, v=True), 404, 409)

    def log(self) -> str:
        """All that it has said since it was made; empty when it is gone."""
        with asking(f"read the log of the container {self.order.name}"):
            try:
                return self._docker.api.logs(self.id).decode("utf-8", "replace")
            except APIError as refusal:
                if refusal.status_code in (404, 409):
                    return ""
                raise

    def run(self, command: Sequence[str]) -> tuple[int | None, str]:
        """Run one more command in it: exit code and output."""
        api = self._docker.api
        with asking(f"run {command[0]} in the container {self.order.name}"):
            ordered = api.exec_create(self.id, list(command))
            said = api.exec_start(ordered["Id"])
            return api.exec_inspect(ordered["Id"])["ExitCode"], said.decode("utf-8", "replace")

    def set_limits(self, limits: Limits) -> None:
        """Raises EnvironmentBroken, for instance where more memory is in use than the new limit."""
        try:
            self._update(limits)
        except EnvironmentBroken:  # one that is just ending takes no limit; one that has ended does
            if self.wait_ended(DYING_S) is None:
                raise
            self._update(limits)

    def _update(self, limits: Limits) -> None:
        with asking(f"limit the container {self.order.name}"):
            self._docker.api.update_container(
                self.id,
                cpu_period=CPU_PERIOD_US,
                cpu_quota=_quota(limits) or -1,
                mem_limit=limits.memory_bytes or NO_MEMORY_LIMIT,
                memswap_limit=limits.memory_bytes or NO_MEMORY_LIMIT,
            )

    def plug_in(self, plug: Plug) -> None:
        """Into a network, with its address and names there. In it already is fine."""
        with asking(f"connect {self.order.name} to the network {plug.network}"):
            if plug.network not in self.networks():
                self._docker.api.connect_container_to_network(
                    self.id, plug.network, ipv4_address=plug.address, aliases=list(plug.names)
                )

    def unplug(self, plug: Plug) -> None:
        """Out of a network. Not in it is fine."""
        with asking(f"take {self.order.name} off the network {plug.network}"):
            if plug.network in self.networks():
                self._docker.api.disconnect_container_from_network(self.id, plug.network)

    def networks(self) -> frozenset[str]:
        """Names of the networks it is in."""
        return frozenset(self._docker.api.inspect_container(self.id)["NetworkSettings"]["Networks"])


def _host_config(docker: Docker, order: Order) -> dict[str, Any]:
    quota = _quota(order.limits)
    config: dict[str, Any] = docker.api.create_host_config(
        binds=[f"{volume}:{place}" for volume, place in order.volumes.items()],
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=order.read_only,
        tmpfs={"/tmp": "mode=1777", "/run": "mode=1777"} if order.read_only else None,
        init=order.init,
        sysctls=dict(order.sysctls) or None,
        cpu_period=CPU_PERIOD_US if quota else None,
        cpu_quota=quota,
        mem_limit=order.limits.memory_bytes,
        memswap_limit=order.limits.memory_bytes,
        log_config=LogConfig(type="json-file", config={"max-size": LOG_BYTES}),
    )
    return config


def _quota(limits: Limits) -> int | None:
    """Microseconds of processor time in a period."""
    return None if limits.cpus is None else max(1000, round(limits.cpus * CPU_PERIOD_US))


def _networking(docker: Docker, plugs: Sequence[Plug]) -> Any:
    """The engine takes one network at first; further ones are connected."""
    api = docker.api
    ends: Any = {
        plug.network: api.create_endpoint_config(ipv4_address=plug.address, aliases=list(plug.names))
        for plug in plugs
    }
    return api.create_networking_config(ends)


def _unless(do: Callable[[], object], *states: int) -> None:
    """Do it; answers with these codes mean that there was nothing to do."""
    try:
        do()
    except APIError as refusal:
        if refusal.status_code not in states:
            raise


def _seen(state: Mapping[str, Any]) -> Seen:
    started_ns, ended_ns = instant_ns(state["StartedAt"]), instant_ns(state["FinishedAt"])
    oom = bool(state.get("OOMKilled"))
    if state["Running"]:
        return Seen("paused" if state["Paused"] else "running", state["Pid"], started_ns, out_of_memory=oom)
    if not started_ns:
        return Seen("created")
    return Seen("ended", 0, started_ns, ended_ns, exit_code(state["ExitCode"]), oom)


def exit_code(code: int) -> int:
    """As the process runtime tells it: 137 is what a shell says for signal 9."""
    return 128 - code if 128 < code <= 192 else code


def instant_ns(text: str) -> int:
    """The engine's instants as epoch ns; 0 for one that has not come."""
    match = _INSTANT.fullmatch(text)
    if match is None or text.startswith(_NEVER):
        return 0
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = datetime.fromisoformat(match[1] + zone).astimezone(UTC)
    return int(whole.timestamp()) * 10**9 + int((match[2] or "").ljust(9, "0"))
