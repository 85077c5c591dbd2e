"""What the runtimes share: coming up in order, readiness, roles, and the record of every service's lives.

A runtime adds where its services live: how one is started and ended, and at which addresses.
"""

from __future__ import annotations

import json
import shlex
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic

from harness.errors import EnvironmentBroken, InputError, TargetError
from harness.evidence.model import Death
from harness.experiment.names import unknown
from harness.experiment.target import Service, TargetSpec
from harness.target.lives import ChildT, Life, Managed
from harness.target.order import GaveUp, in_order, never
from harness.target.readiness import Answer, ask, await_ready
from harness.target.runtime import Address, LinkEnds, ServiceState

READY_TIMEOUT_S = 60.0


class Deployment(ABC, Generic[ChildT]):
    """The common half of a runtime; ``prepare`` fills ``_addresses`` and ``_links``."""

    def __init__(self, spec: TargetSpec, commands: Mapping[str, str], logs: Path) -> None:
        """``commands``: how each service is started. ``logs``: the folder of their logs."""
        self.spec = spec
        self._addresses: dict[tuple[str, int], Address] = {}
        self._links: dict[str, LinkEnds] = {}
        self._services: dict[str, Managed[ChildT]] = {
            name: Managed(service, commands[name], logs / f"{name}.log")
            for name, service in spec.services.items()
        }

    @abstractmethod
    def prepare(self) -> Mapping[str, LinkEnds]: ...

    @abstractmethod
    def start(self, service: str) -> None: ...

    @abstractmethod
    def environment_of(self, service: Service) -> dict[str, str]:
        """What it is started with; an address of the target that is no declared link leads nowhere."""

    # --- coming up ------------------------------------------------------------------------------
    def deploy(self, stopping: Callable[[], bool] = never) -> None:
        """Services in the order of ``depends_on``, as parallel as that allows; then ``ready_when``.

        One that was started early is only waited for.
        """
        self.prepare()

        def bring_up(name: str, gave_up: Callable[[], bool]) -> None:
            if not self._one(name).lives:
                self.start(name)
            self._await_service(name, READY_TIMEOUT_S, gave_up)

        in_order({name: one.spec.depends_on for name, one in self._services.items()}, bring_up, stopping)
        in_order(dict.fromkeys(self.spec.ready_when, ()), self._await_role, stopping)

    def wait_ready(self, services: Sequence[str], timeout_s: float) -> None:
        """Until all answer 200 on their readiness endpoint. Raises NotReady."""
        in_order(
            dict.fromkeys(services, ()),
            lambda name, gave_up: self._await_service(name, timeout_s, gave_up),
        )

    def _await_service(self, name: str, timeout_s: float, gave_up: Callable[[], bool]) -> None:
        one = self._one(name)
        endpoint = one.spec.ready
        if endpoint is None:
            return
        address = self.address(name, endpoint.port)

        def over() -> str | None:
            if gave_up():
                raise GaveUp
            state = self.state(name)
            ended = state.status in ("dead", "stopped")
            return f"its process ended with code {state.exit_code}" if ended else None

        await_ready(
            name,
            lambda: ask(address, endpoint),
            what=f"{endpoint.method} {endpoint.path} on port {endpoint.port} (here {address}) to answer 200",
            timeout_s=timeout_s,
            log=lambda: self.log(name),
            over=over,
        )

    def _await_role(self, role: str, gave_up: Callable[[], bool]) -> None:
        wanted = self.spec.roles[role]

        def check() -> Answer:
            answers = self._ask_members(role)
            holders = [name for name, answer in answers.items() if answer.status == 200]
            text = ", ".join(f"{name}: {answer.status or answer.text}" for name, answer in answers.items())
            return Answer(200 if len(holders) == 1 else None, text)

        def over() -> str | None:
            if gave_up():
                raise GaveUp
            return None

        await_ready(
            f"role {role}",
            check,
            what=f"exactly one of {', '.join(wanted.members)} to answer 200 on {wanted.endpoint.path}",
            timeout_s=READY_TIMEOUT_S,
            log=lambda: self.log(wanted.members[0]),
            over=over,
        )

    # --- life and death -------------------------------------------------------------------------
    def kill(self, service: str) -> None:
        one = self._one(service)
        with one.lock:
            if (life := one.running) is not None:
                life.invited_ns = time.time_ns()
                life.child.kill_tree()

    def stop(self, service: str, grace_s: float) -> int | None:
        """A paused service is let go on, to hear SIGTERM."""
        one = self._one(service)
        with one.lock:
            life = one.running
            if life is None:
                return None
            life.invited_ns, life.stopped = time.time_ns(), True
            life.child.resume_tree()
            life.child.signal(signal.SIGTERM)
            if life.child.wait(grace_s) is None:
                life.child.kill_tree()
            return life.child.poll()

    def pause(self, service: str) -> None:
        with self._one(service).lock:
            life = self._needs_running(service)
            life.child.pause_tree()
            life.paused = True

    def resume(self, service: str) -> None:
        with self._one(service).lock:
            life = self._needs_running(service)
            life.child.resume_tree()
            life.paused = False

    # --- where things are, and how they are -----------------------------------------------------
    def address(self, service: str, port: int) -> Address:
        if (service, port) not in self._addresses:
            self.prepare()
        try:
            return self._addresses[service, port]
        except KeyError:
            has = ", ".join(str(port) for port in self._one(service).spec.ports)
            raise InputError(
                f"service {service!r} exposes no port {port}", hint=f"it exposes: {has}"
            ) from None

    def link(self, name: str) -> LinkEnds:
        if name not in self._links:
            self.prepare()
        if name not in self._links:
            raise InputError(unknown("link", name, self._links))
        return self._links[name]

    def state(self, service: str) -> ServiceState:
        return self._one(service).state()

    def log(self, service: str) -> Path:
        return self._one(service).log

    def role(self, name: str) -> str | None:
        if name not in self.spec.roles:
            raise InputError(unknown("role", name, self.spec.roles))
        holders = [member for member, answer in self._ask_members(name).items() if answer.status == 200]
        return holders[0] if len(holders) == 1 else None

    def _ask_members(self, role: str) -> dict[str, Answer]:
        """Every member's answer, asked at the same time."""
        members, endpoint = self.spec.roles[role].members, self.spec.roles[role].endpoint
        with ThreadPoolExecutor(len(members), thread_name_prefix=f"role {role}") as pool:
            answers = pool.map(lambda member: ask(self.address(member, endpoint.port), endpoint), members)
            return dict(zip(members, answers, strict=True))

    def deaths(self) -> tuple[Death, ...]:
        deaths = [death for one in self._services.values() for death in one.deaths()]
        return tuple(sorted(deaths, key=lambda death: death.at_ns))

    def replace(self, service: str, process: str) -> None:
        one = self._one(service)
        split(process)  # a command that cannot be split is refused now, not at the next start
        with one.lock:
            one.process = process

    def reconfigure(self, service: str, environment: Mapping[str, str]) -> Mapping[str, str]:
        one = self._one(service)
        given = one.spec.model_copy(update={"environment": {**one.spec.environment, **environment}})
        with one.lock:
            one.environment = self.environment_of(given)
            return dict(one.environment)

    def _one(self, service: str) -> Managed[ChildT]:
        if service not in self._services:
            raise InputError(unknown("service", service, self._services))
        return self._services[service]

    def _needs_running(self, service: str) -> Life[ChildT]:
        life = self._one(service).running
        if life is None:
            raise EnvironmentBroken(f"{service} does not run: it is {self.state(service).status}")
        return life


def split(command: str) -> list[str]:
    """A command line as a list. Raises TargetError."""
    try:
        argv = shlex.split(command)
    except ValueError as problem:
        raise TargetError(f"the command {command!r} cannot be split: {problem}") from problem
    if not argv:
        raise TargetError("an empty command")
    return argv


def process_of(service: Service) -> str:
    """How it is started as a plain process. Raises TargetError when the target does not say."""
    if service.process is None:
        raise TargetError(
            f"service {service.name!r} has no x-ledgerquake.process",
            hint="say how to start it as a plain process, or use --runtime docker",
        )
    return service.process


def read_versions(command: str, code: int | None, said: str) -> dict[str, str]:
    """What a target's versions command printed, component -> version. Raises TargetError."""
    lines = said.splitlines()
    try:
        found = json.loads(lines[-1])
        return {str(name): str(version) for name, version in found.items()}
    except (IndexError, ValueError, AttributeError):
        last = lines[-1] if lines else "nothing"
        raise TargetError(
            f"the target's versions command ({command}) ended with {code} and said: {last}",
            hint="it must print one JSON object, component -> version, in its last line",
        ) from None
