"""The Docker runtime: each service a container, alone in networks of its own with the proxies of its links.

Names in a service's environment are the plain ones, and the proxy bears them: nothing in a service is
changed. Containers keep their addresses and volumes over restarts.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.errors import EnvironmentBroken
from harness.evidence.model import Death
from harness.experiment.target import Service, TargetSpec
from harness.experiment.vocabulary import Ability, abilities_of
from harness.target.deployment import READY_TIMEOUT_S, Deployment, read_versions, split
from harness.target.docker import kernel, sweep
from harness.target.docker.container import Container, Order
from harness.target.docker.endpoint import Docker, EngineGone, asking
from harness.target.docker.engine import SYSCTLS, ContainerEngine
from harness.target.docker.images import EngineImage, Image
from harness.target.docker.labels import RUN, SERVICE, Claim, full_name
from harness.target.docker.layout import LINK_ENGINE, LINK_ENGINE_PORT, Segment, first_services
from harness.target.docker.limits import LimitsSet
from harness.target.docker.lives import Incarnation, Roster
from harness.target.docker.networks import Networks
from harness.target.docker.watch import Watch
from harness.target.lives import Managed
from harness.target.order import in_order, never
from harness.target.runtime import Address, Limits, LinkEnds, RuntimeName, ServiceState, Usage
from harness.target.scratch import RUN_VARIABLE, SERVICE_VARIABLE
from harness.target.supervisor import Supervisor

AT_ONCE = 4
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])
# Isolated: a module of the same name in the caller's folder must not come first.
_SWEEP = "import sys; sys.path.insert(0, {root!r}); from harness.target.docker.sweep import main; main()"


class DockerRuntime(Deployment[Incarnation]):
    """A target deployed as containers. Satisfies ``Runtime``, ``Unplugging`` and ``Limiting``.

    ``images``: by service, present on the engine already.
    """

    name: RuntimeName = "docker"
    abilities: frozenset[Ability] = abilities_of("docker")

    def __init__(
        self,
        spec: TargetSpec,
        *,
        run_id: str,
        scratch: Path,
        supervisor: Supervisor,
        docker: Docker,
        images: Mapping[str, Image],
    ) -> None:
        super().__init__(spec, dict.fromkeys(spec.services, ""), scratch / "logs")
        self._run_id = run_id
        for one in self._services.values():
            one.environment = self.environment_of(one.spec)
        self._scratch = scratch
        self._supervisor = supervisor
        self._docker = docker
        self._images = images
        self._labels = Claim.of_run(scratch).labels()
        self._networks = Networks(docker, spec, run_id, self._labels)
        self._limits = LimitsSet(spec)
        self._first = first_services(spec)
        self._engine: ContainerEngine | None = None
        self._watch: Watch | None = None
        self._containers: dict[str, Container] = {}
        self._earlier: dict[str, str] = {}  # what containers that were made anew had said
        self._unplugged: set[str] = set()
        self._will: int | None = None
        self._roster = Roster(docker, run_id)
        self._preparing = threading.Lock()
        self._down = False

    # --- coming up ------------------------------------------------------------------------------
    def prepare(self) -> Mapping[str, LinkEnds]:
        """All networks and volumes, and with them every address. Raises EnvironmentBroken."""
        self._prepare(self._networks.segments)
        return dict(self._links)

    def prepare_first(self) -> Mapping[str, LinkEnds]:
        """Only what the services that are ``first`` need, and the way in."""
        entry = self._networks.of_link(self.spec.entry)
        self._prepare([one for one in self._networks.segments if one.client in self._first or one is entry])
        return dict(self._links)

    def _prepare(self, segments: Sequence[Segment]) -> None:
        with self._preparing:
            if self._watch is None:
                (self._scratch / "logs").mkdir(exist_ok=True, mode=0o700)
                self._leave_a_will()
                self._watch = Watch(self._docker)
                self._make_volumes()
            for segment in segments:
                if self._networks.make(segment) and self._engine is not None:
                    self._engine.container.plug_in(self._networks.proxy_plug(segment))
            self._addresses.update(self._networks.addresses())
            self._links.update(self._networks.ends())

    def start_first(self, stopping: Callable[[], bool] = never) -> None:
        """Start those, each after what it depends on; the last ones are not waited for.

        Raises NotReady; Aborted soon after ``stopping()`` is true.
        """
        waited_for = {name for one in self._first for name in self.spec.services[one].depends_on}

        def one(name: str, gave_up: Callable[[], bool]) -> None:
            self.start(name)
            if name in waited_for:
                self._await_service(name, READY_TIMEOUT_S, gave_up)

        in_order({name: self.spec.services[name].depends_on for name in self._first}, one, stopping)

    def _leave_a_will(self) -> None:
        """Before the first thing exists: whatever becomes of the harness, the run's things are removed."""
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        self._will = self._supervisor.bequeath(
            [sys.executable, "-I", "-c", _SWEEP.format(root=_PACKAGE_ROOT), self._run_id, self._docker.url],
            environment,
            sweep.PATIENCE_S,
        )

    def _make_volumes(self) -> None:
        names = {volume for service in self.spec.services.values() for volume in service.volumes}
        for name in sorted(names):
            with asking(f"make the volume {self._name(name)}"):
                made = self._docker.api.create_volume(self._name(name), labels=self._labels)
            if (made.get("Labels") or {}).get(RUN) != self._run_id:  # an engine gives one that is there
                raise EnvironmentBroken(
                    f"cannot make the volume {self._name(name)}: somebody else has one of that name"
                )

    def start_engine(self, image: EngineImage) -> ContainerEngine:
        """The proxies' container, in all networks that there are so far. Raises EnvironmentBroken."""
        self.prepare_first()
        address = self._networks.proxy_plug(self._networks.of_link(self.spec.entry)).address
        dash = "-" if image.kind == "server" else "--"
        container = Container.create(
            self._docker,
            Order(
                name=self._name(LINK_ENGINE),
                image=image.ref,
                command=[*image.arguments, f"{dash}host", address, f"{dash}port", str(LINK_ENGINE_PORT)],
                hostname=LINK_ENGINE,
                labels={**self._labels, SERVICE: LINK_ENGINE},
                plugs=self._networks.proxy_plugs(),
                environment={"LOG_LEVEL": "warn"},  # by default it tells each connection's life
                sysctls=SYSCTLS,
            ),
        )
        log = self._scratch / "logs" / "toxiproxy.log"
        self._engine = ContainerEngine(container, image, address, log)
        self._engine.launch()
        return self._engine

    def _name(self, part: str) -> str:
        return full_name(self._run_id, part)

    def environment_of(self, service: Service) -> dict[str, str]:
        """As it is written: a name that the proxy does not bear is no name in a service's networks."""
        return {**service.environment, RUN_VARIABLE: self._run_id, SERVICE_VARIABLE: service.name}

    def _order(self, one: Managed[Incarnation]) -> Order:
        service, command = one.spec, one.process
        return Order(
            name=self._name(service.name),
            image=self._images[service.name].id,
            command=split(command) if command else service.command,
            hostname=service.name,
            labels={**self._labels, SERVICE: service.name},
            plugs=self._networks.plugs(service.name),
            environment=one.environment,
            volumes={self._name(volume): place for volume, place in service.volumes.items()},
            limits=self._limits.of(service.name),
            read_only=service.read_only,
            init=service.init,
            user=service.user,
        )

    # --- how things are -------------------------------------------------------------------------
    def state(self, service: str) -> ServiceState:
        one = self._one(service)
        if (life := one.running) is not None:
            seen = life.child.container.look()
            life.child.note(seen)
            life.paused = seen.status == "paused"
        self._note_end_by_limit(service)
        return one.state()

    def log(self, service: str) -> Path:
        one, container = self._one(service), self._containers.get(service)
        if container is not None and not self._down:
            _keep(one.log, self._earlier.get(service, "") + container.log())
        return one.log

    def deaths(self) -> tuple[Death, ...]:
        """Raises EngineGone when the engine was not there all the time: it ended them all."""
        if self._watch is not None:
            self._watch.check()
        for name, one in self._services.items():
            self._note_end_by_limit(name)
            if one.lives and one.lives[-1].uninvited_end and one.lives[-1].last_log is None:
                self.log(name)
                one.keep_last_words()
        return super().deaths()

    def connections(self, service: str) -> tuple[Address, ...]:
        life = self._one(service).running
        found = kernel.remote_ends(life.child.pid) if life is not None else frozenset()
        return tuple(sorted(found, key=lambda end: (end.host, end.port)))

    def environment(self, service: str) -> Mapping[str, str]:
        return self._needs_running(service).child.container.environment()

    def alive(self, pid: int) -> bool:
        return kernel.alive(pid)

    def stands_still(self, service: str) -> bool:
        life = self._one(service).running
        return life is not None and kernel.frozen(life.child.pid)

    def versions(self) -> Mapping[str, str]:
        used = {self.spec.services[name].image or name: image.id for name, image in self._images.items()}
        return {
            "docker": f"{self._docker.version} (API {self._docker.api_version})",
            **{f"image {ref}": id for ref, id in sorted(used.items())},
            **self._ask_versions(),
        }

    def _ask_versions(self) -> dict[str, str]:
        """Asked in a container that runs; which one does not matter to a target of one image."""
        if self.spec.versions is None:
            return {}
        running = next((name for name, one in self._services.items() if one.running is not None), None)
        if running is None:
            raise EnvironmentBroken("no service runs that could be asked for versions")
        code, said = self._containers[running].run(split(self.spec.versions))
        return read_versions(self.spec.versions, code, said)

    # --- life and death -------------------------------------------------------------------------
    def start(self, service: str) -> None:
        """Start it; does not wait for readiness. Raises EnvironmentBroken when it runs already."""
        one = self._one(service)
        if not self._networks.are_made_for(service):
            self.prepare()
        with one.lock:
            self.state(service)  # the roster may not have heard yet that the last life is over
            if one.running is not None:
                raise EnvironmentBroken(f"{service} runs already (process {one.running.child.pid})")
            self._keep_last_words(service)
            container = self._ready_made(service)
            container.start()
            one.begin(Incarnation(container, container.look(), self._roster))

    def _keep_last_words(self, service: str) -> None:
        if service in self._containers:
            self.log(service)
            self._one(service).keep_last_words()

    def _ready_made(self, service: str) -> Container:
        """Its container; made anew when another command or environment was given."""
        order, made = self._order(self._one(service)), self._containers.get(service)
        if made is not None and _alike(made.order, order):
            return made
        if made is not None:
            self._earlier[service] = self._earlier.get(service, "") + made.log()
            made.remove()
        self._containers[service] = Container.create(self._docker, order)
        if service in self._unplugged:
            self._pull(service)
        return self._containers[service]

    # --- off the network ------------------------------------------------------------------------
    def unplug(self, service: str) -> None:
        """Off all its networks. Raises EnvironmentBroken."""
        with self._one(service).lock:
            self._needs_running(service)
            self._unplugged.add(service)
            self._pull(service)

    def _pull(self, service: str) -> None:
        for plug in self._networks.plugs(service):
            self._containers[service].unplug(plug)

    def plug_in(self, service: str) -> None:
        with self._one(service).lock:
            for plug in self._networks.plugs(service):
                self._containers[service].plug_in(plug)
            self._unplugged.discard(service)

    def interfaces(self, service: str) -> tuple[str, ...]:
        life = self._one(service).running
        return kernel.interfaces(life.child.pid) if life is not None else ()

    # --- limits ---------------------------------------------------------------------------------
    def limits(self, service: str) -> Limits:
        found = kernel.limits(self._needs_running(service).child.pid)
        if found is None:
            raise EnvironmentBroken(f"the kernel shows no limits of {service}")
        return found

    def set_limits(self, service: str, limits: Limits) -> None:
        with self._one(service).lock:
            if (made := self._containers.get(service)) is not None:
                made.set_limits(limits)
            self._limits.note(service, limits)

    def out_of_memory(self, service: str) -> bool:
        return any(self._limits.ended(service, life) for life in self._one(service).lives[-1:])

    def _note_end_by_limit(self, service: str) -> None:
        for life in self._one(service).lives[-1:]:
            self._limits.invite(service, life)

    def usage(self, service: str) -> Usage:
        found = kernel.usage(self._needs_running(service).child.pid)
        if found is None:
            raise EnvironmentBroken(f"the kernel shows no counters of {service}")
        return found

    # --- the end --------------------------------------------------------------------------------
    def teardown(self) -> None:
        """Remove containers, networks and volumes; logs stay. Idempotent. Raises EnvironmentBroken."""
        if self._down:
            return
        if self._watch is not None:
            self._watch.close()
        try:
            for one in self._services.values():
                if (life := one.running) is not None:
                    life.invited_ns = time.time_ns()
            self._keep_logs()
            left = sweep.sweep(self._docker, self._run_id)
        except EngineGone:
            return  # the will is carried out later, and tells what it could not remove
        finally:
            self._down = True
        if left:
            names = ", ".join(str(thing) for thing in left)
            raise EnvironmentBroken(f"cannot be removed: {names}", hint="ledgerquake cleanup")
        if self._will is not None and self._supervisor.alive:
            self._supervisor.revoke(self._will)

    def _keep_logs(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="logs") as pool:
            list(pool.map(self.log, self._containers))
        if self._engine is not None:
            self._engine.keep_log()


def _alike(one: Order, other: Order) -> bool:
    return (one.command, one.environment) == (other.command, other.environment)


def _keep(file: Path, text: str) -> None:
    """All at once: another thread may be reading."""
    draft = file.with_name(f".{file.name}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
