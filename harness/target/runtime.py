"""The protocol both runtimes keep; ``process`` and ``docker`` pass one conformance suite.

Whatever is asked of a runtime concerns only what it deployed itself. Instants are epoch ns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from harness.evidence.model import Death
from harness.experiment.target import TargetSpec
from harness.experiment.vocabulary import Ability


@dataclass(frozen=True)
class Address:
    """Where something listens, as reached from the harness."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class LinkEnds:
    """A link in this deployment: the client connects to ``listen``, the proxy dials ``upstream``."""

    name: str
    listen: Address
    upstream: Address


RuntimeName = Literal["process", "docker"]
Status = Literal["running", "paused", "stopped", "dead"]


@dataclass(frozen=True)
class ServiceState:
    """``incarnation`` grows by one with each start; ``pid`` is the service's main process."""

    service: str
    status: Status
    pid: int | None
    started_ns: int | None
    incarnation: int
    exit_code: int | None = None


class Runtime(Protocol):
    """A deployed target. ``abilities``: which of the optional protocols below it has."""

    name: RuntimeName
    abilities: frozenset[Ability]
    spec: TargetSpec

    def prepare(self) -> Mapping[str, LinkEnds]:
        """Choose addresses. Nothing runs yet; the caller creates the proxies, then deploys."""
        ...

    def deploy(self, stopping: Callable[[], bool] = ...) -> None:
        """Start every service in dependency order and wait until all are ready.

        Raises NotReady with the service's last log lines; Aborted soon after ``stopping()`` is true.
        """
        ...

    def address(self, service: str, port: int) -> Address:
        """Out of band: past every proxy. For readiness, roles, jobs, evidence."""
        ...

    def link(self, name: str) -> LinkEnds: ...

    def state(self, service: str) -> ServiceState: ...

    def kill(self, service: str) -> None:
        """SIGKILL the service and every process it started; invited, so not a death."""
        ...

    def stop(self, service: str, grace_s: float) -> int | None:
        """SIGTERM, wait, SIGKILL; a paused one goes on first. The exit code, negative for a signal."""
        ...

    def start(self, service: str) -> None: ...

    def replace(self, service: str, process: str) -> None:
        """Use another command from the next start on (mutants, bad releases)."""
        ...

    def reconfigure(self, service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Other values for these variables from the next start on; none: the target's own.

        Addresses of declared links in them go through the proxies like those of the target. Another port
        of a service, or another service, leads nowhere: to a place where nobody listens. Returns what the
        next process will be given, as it will have it.
        """
        ...

    def environment(self, service: str) -> Mapping[str, str]:
        """What its main process holds, as the kernel or the engine has it.

        Raises EnvironmentBroken when it does not run.
        """
        ...

    def pause(self, service: str) -> None: ...

    def resume(self, service: str) -> None: ...

    def wait_ready(self, services: Sequence[str], timeout_s: float) -> None: ...

    def role(self, name: str) -> str | None:
        """Who answers to this role now; None while nobody, or more than one, does."""
        ...

    def log(self, service: str) -> Path: ...

    def connections(self, service: str) -> tuple[Address, ...]:
        """Remote ends of the TCP connections that the service's processes hold now (established
        or being opened). Shows whether a service really goes through its proxies."""
        ...

    def alive(self, pid: int) -> bool:
        """Whether that process still runs; a zombie does not."""
        ...

    def stands_still(self, service: str) -> bool:
        """Whether every process of the service is stopped or frozen, as the kernel has it."""
        ...

    def deaths(self) -> tuple[Death, ...]:
        """Everything that has ended uninvited so far."""
        ...

    def versions(self) -> Mapping[str, str]: ...

    def teardown(self) -> None:
        """Remove everything of this run. Idempotent."""
        ...


@runtime_checkable
class Unplugging(Protocol):
    """Ability ``unplug``: a service can be taken off all its networks, and put back just as it was."""

    def unplug(self, service: str) -> None: ...

    def plug_in(self, service: str) -> None:
        """With the same names and addresses as before. Plugged in already is fine."""
        ...

    def interfaces(self, service: str) -> tuple[str, ...]:
        """The network interfaces its processes see now, loopback aside."""
        ...


@dataclass(frozen=True)
class Limits:
    """What a service may use. None: as much as there is."""

    cpus: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """The kernel's counters for a service since it started.

    ``periods`` are scheduling periods under a processor limit, ``throttled`` those in which it was held
    back. ``memory_refused``: how often it reached its memory limit; ``oom_kills``: how many of its processes
    were killed for that.
    """

    cpu_ns: int
    periods: int
    throttled: int
    memory_bytes: int
    memory_refused: int
    oom_kills: int = 0


@runtime_checkable
class Limiting(Protocol):
    """Ability ``limit``: processor and memory limits of a running service can be changed."""

    def limits(self, service: str) -> Limits:
        """As the kernel has them now. Raises EnvironmentBroken when it does not run."""
        ...

    def set_limits(self, service: str, limits: Limits) -> None:
        """Both are set; they hold until changed, over restarts too. It need not run.

        Raises EnvironmentBroken when the engine or the kernel refuses, as where it uses more already.
        """
        ...

    def usage(self, service: str) -> Usage:
        """Raises EnvironmentBroken when it does not run."""
        ...

    def out_of_memory(self, service: str) -> bool:
        """Whether the kernel ended its latest life for a memory limit set here.

        Whoever sets a limit invites that end, as with ``kill``: it is not among the ``deaths``.
        """
        ...
