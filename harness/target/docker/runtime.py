"""The Docker runtime: each service a container, alone in networks of its own with the proxies of its links.

Names in a service's environment are the plain ones, and the proxy bears them: nothing in a service is
changed. Containers keep their addresses and volumes over restarts.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from harness.errors import EnvironmentBroken
from harness.evidence.model import Death
from harness.experiment.target import Service, TargetSpec
from harness.experiment.vocabulary import Ability
from harness.target.deployment import READY_TIMEOUT_S, Deployment, read_versions, split
from harness.target.docker import kernel, sweep
from harness.target.docker.container import Container, Order, Plug
from harness.target.docker.endpoint import Docker, EngineGone, asking
from harness.target.docker.engine import API_PORT, ContainerEngine
from harness.target.docker.images import EngineImage, Image
from harness.target.docker.labels import RUN, SERVICE, Claim
from harness.target.docker.layout import PROXY, Layout, Segment, host, lay_out
from harness.target.docker.layout import SERVICE as OWN
from harness.target.docker.lives import Incarnation, Roster
from harness.target.docker.subnets import candidates, taken
from harness.target.docker.watch import Watch
from harness.target.lives import Life
from harness.target.order import in_order
from harness.target.runtime import Address, Limits, LinkEnds, RuntimeName, ServiceState, Usage
from harness.target.scratch import RUN_VARIABLE, SERVICE_VARIABLE
from harness.target.supervisor import Supervisor

AT_ONCE = 4
SETTING_NS = 500_000_000  # a limit holds a little before the engine says that it does
ENGINE_SERVICE = "toxiproxy"
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])
# Isolated: a module of the same name in the caller's folder must not come first.
_SWEEP = "import sys; sys.path.insert(0, {root!r}); from harness.target.docker.sweep import main; main()"


class DockerRuntime(Deployment[Incarnation]):
    """A target deployed as containers. Satisfies ``Runtime``, ``Unplugging`` and ``Limiting``.

    ``images``: by service, present on the engine already.
    """

    name: RuntimeName = "docker"
    abilities: frozenset[Ability] = frozenset({"unplug", "limit"})

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
        self._scratch = scratch
        self._supervisor = supervisor
        self._docker = docker
        self._images = images
        self._layout: Layout = lay_out(spec)
        self._subnets: dict[Segment, IPv4Network] = {}
        self._free: Iterator[IPv4Network] = iter(())
        self._engine: ContainerEngine | None = None
        self._watch: Watch | None = None
        self._containers: dict[str, Container] = {}
        self._earlier: dict[str, str] = {}  # what containers that were made anew had said
        self._limits = {
            name: Limits(service.cpus, service.memory_bytes) for name, service in spec.services.items()
        }
        self._narrowed: dict[str, list[tuple[int, int | None]]] = {}  # memory: since, until (epoch ns)
        self._unplugged: set[str] = set()
        self._will: int | None = None
        self._roster = Roster(docker, run_id)
        self._preparing = threading.Lock()
        self._labels: dict[str, str] = {}
        self._down = False

    # --- coming up ------------------------------------------------------------------------------
    def prepare(self) -> Mapping[str, LinkEnds]:
        """All networks and volumes, and with them every address. Raises EnvironmentBroken."""
        self._prepare(self._layout.segments)
        return dict(self._links)

    def prepare_first(self) -> Mapping[str, LinkEnds]:
        """Only what the services that are ``first`` need, and the way in."""
        first = self._first()
        self._prepare(
            [
                segment
                for segment in self._layout.segments
                if segment.client in first or segment is self._layout.of_link[self.spec.entry]
            ]
        )
        return dict(self._links)

    def _prepare(self, segments: Sequence[Segment]) -> None:
        with self._preparing:
            if self._watch is None:
                (self._scratch / "logs").mkdir(exist_ok=True, mode=0o700)
                self._leave_a_will()
                self._watch = Watch(self._docker)
                self._labels = Claim.of_run(self._scratch).labels()
                self._free = candidates(self._run_id, taken(self._docker))
                self._make_volumes()
            for segment in segments:
                if segment not in self._subnets:
                    self._subnets[segment] = self._make_network(segment, self._free)
                    if self._engine is not None:
                        self._engine.container.plug_in(self._plug(segment, PROXY, segment.servers))
            self._note_addresses()

    def _first(self) -> frozenset[str]:
        """Services that all others wait for longest: who holds the roles of ``ready_when``, and whatever
        these depend on. Their start is worth hiding the making of the other networks in.
        """
        found: set[str] = set()
        more = {member for role in self.spec.ready_when for member in self.spec.roles[role].members}
        while more:
            found |= more
            dialled = {link.server for link in self.spec.links.values() if link.client in more}
            needed = {name for one in more for name in self.spec.services[one].depends_on}
            more = (dialled | needed) - found
        return frozenset(found)

    def start_first(self) -> None:
        """Start those, each after what it depends on; the last ones are not waited for."""
        first = self._first()
        waited_for = {name for one in first for name in self.spec.services[one].depends_on}

        def one(name: str, gave_up: Callable[[], bool]) -> None:
            self.start(name)
            if name in waited_for:
                self._await_service(name, READY_TIMEOUT_S, gave_up)

        in_order({name: self.spec.services[name].depends_on for name in first}, one)

    def _leave_a_will(self) -> None:
        """Before the first thing exists: whatever becomes of the harness, the run's things are removed."""
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        self._will = self._supervisor.bequeath(
            [sys.executable, "-I", "-c", _SWEEP.format(root=_PACKAGE_ROOT), self._run_id, self._docker.url],
            environment,
            sweep.PATIENCE_S,
        )

    def _make_network(self, segment: Segment, free: Iterator[IPv4Network]) -> IPv4Network:
        """In the first subnet that nobody takes at the same moment."""
        for subnet in free:
            pool = IPAMPool(subnet=str(subnet), gateway=str(host(subnet, 1)))
            try:
                with asking(f"make the network {self._name(segment.name)}"):
                    self._docker.api.create_network(
                        self._name(segment.name),
                        driver="bridge",
                        internal=True,
                        check_duplicate=True,
                        labels=self._labels,
                        ipam=IPAMConfig(pool_configs=[pool]),
                    )
            except EnvironmentBroken as broken:
                cause = broken.__cause__
                if isinstance(cause, APIError) and "overlaps" in str(cause.explanation):
                    continue
                raise
            return subnet
        raise AssertionError("candidates end by raising")

    def _make_volumes(self) -> None:
        names = {volume for service in self.spec.services.values() for volume in service.volumes}
        for name in sorted(names):
            with asking(f"make the volume {self._name(name)}"):
                made = self._docker.api.create_volume(self._name(name), labels=self._labels)
            if (made.get("Labels") or {}).get(RUN) != self._run_id:  # an engine gives one that is there
                raise EnvironmentBroken(
                    f"cannot make the volume {self._name(name)}: somebody else has one of that name"
                )

    def _note_addresses(self) -> None:
        """Of whatever has its networks by now."""
        for name, service in self.spec.services.items():
            if subnet := self._subnets.get(self._layout.of_client(name)[0]):
                self._addresses.update(
                    {(name, port): Address(str(host(subnet, OWN)), port) for port in service.ports}
                )
        for name, link in self.spec.links.items():
            subnet, upstream = (
                self._subnets.get(self._layout.of_link[name]),
                self._addresses.get((link.server, link.port)),
            )
            if subnet and upstream:
                self._links[name] = LinkEnds(name, Address(str(host(subnet, PROXY)), link.port), upstream)

    def start_engine(self, image: EngineImage) -> ContainerEngine:
        """The proxies' container, in all networks that there are so far. Raises EnvironmentBroken."""
        self.prepare_first()
        entry = self._layout.of_link[self.spec.entry]
        address = str(host(self._subnets[entry], PROXY))
        dash = "-" if image.kind == "server" else "--"
        container = Container.create(
            self._docker,
            Order(
                name=self._name(ENGINE_SERVICE),
                image=image.ref,
                command=[*image.arguments, f"{dash}host", address, f"{dash}port", str(API_PORT)],
                hostname=ENGINE_SERVICE,
                labels={**self._labels, SERVICE: ENGINE_SERVICE},
                plugs=[self._plug(segment, PROXY, segment.servers) for segment in self._subnets],
                environment={"LOG_LEVEL": "warn"},  # by default it tells each connection's life
            ),
        )
        log = self._scratch / "logs" / "toxiproxy.log"
        self._engine = ContainerEngine(container, image, address, log)
        self._engine.launch()
        return self._engine

    def _plug(self, segment: Segment, number: int, names: tuple[str, ...] = ()) -> Plug:
        return Plug(self._name(segment.name), str(host(self._subnets[segment], number)), names)

    def _plugs(self, service: str) -> list[Plug]:
        return [self._plug(segment, OWN) for segment in self._layout.of_client(service)]

    def _name(self, part: str) -> str:
        return f"lq-{self._run_id}-{part}"

    def _order(self, service: Service, command: str) -> Order:
        marks = {RUN_VARIABLE: self._run_id, SERVICE_VARIABLE: service.name}
        return Order(
            name=self._name(service.name),
            image=self._images[service.name].id,
            command=split(command) if command else service.command,
            hostname=service.name,
            labels={**self._labels, SERVICE: service.name},
            plugs=self._plugs(service.name),
            environment={**service.environment, **marks},
            volumes={self._name(volume): place for volume, place in service.volumes.items()},
            limits=self._limits[service.name],
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
        if any(segment not in self._subnets for segment in self._layout.of_client(service)):
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
        """Its container; made anew when another command was given."""
        one = self._one(service)
        order, made = self._order(one.spec, one.process), self._containers.get(service)
        if made is not None and made.order.command == order.command:
            return made
        if made is not None:
            self._earlier[service] = self._earlier.get(service, "") + made.log()
            made.remove()
        self._containers[service] = Container.create(self._docker, order)
        if service in self._unplugged:
            self._pull(service)
        return self._containers[service]

    def kill(self, service: str) -> None:
        one = self._one(service)
        with one.lock:
            if (life := one.running) is not None:
                life.invited_ns = time.time_ns()
                life.child.note(life.child.container.kill())

    def stop(self, service: str, grace_s: float) -> int | None:
        """A frozen container is let go on, to hear SIGTERM."""
        one = self._one(service)
        with one.lock:
            life = one.running
            if life is None:
                return None
            life.invited_ns, life.stopped = time.time_ns(), True
            container = life.child.container
            container.resume()
            container.signal(signal.SIGTERM.name)
            life.child.note(container.wait_ended(grace_s) or container.kill())
            return life.child.poll()

    def pause(self, service: str) -> None:
        with self._one(service).lock:
            life = self._needs_running(service)
            life.child.container.pause()
            life.paused = True

    def resume(self, service: str) -> None:
        with self._one(service).lock:
            life = self._needs_running(service)
            life.child.container.resume()
            life.paused = False

    # --- off the network ------------------------------------------------------------------------
    def unplug(self, service: str) -> None:
        """Off all its networks. Raises EnvironmentBroken."""
        with self._one(service).lock:
            self._needs_running(service)
            self._unplugged.add(service)
            self._pull(service)

    def _pull(self, service: str) -> None:
        for plug in self._plugs(service):
            self._containers[service].unplug(plug)

    def plug_in(self, service: str) -> None:
        with self._one(service).lock:
            for plug in self._plugs(service):
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
        one, spec = self._one(service), self.spec.services[service]
        with one.lock:
            self._containers[service].set_limits(limits)
            self._limits[service] = limits
            now = time.time_ns()
            spans = self._narrowed.setdefault(service, [])
            if spans and spans[-1][1] is None:
                spans[-1] = (spans[-1][0], now)
            if limits.memory_bytes is not None and limits.memory_bytes < (spec.memory_bytes or 1 << 60):
                spans.append((now - SETTING_NS, None))

    def out_of_memory(self, service: str) -> bool:
        one = self._one(service)
        return bool(one.lives) and self._by_limit(service, one.lives[-1])

    def _by_limit(self, service: str, life: Life[Incarnation]) -> bool:
        """Whether it was killed while its memory was narrower than the target's own file has it.

        By instants: the engine may tell of an end only when the limit has been lifted again.
        """
        ended_ns = life.child.ended_ns if life.over and life.child.out_of_memory else None
        if ended_ns is None or life.child.poll() != -signal.SIGKILL:
            return False
        spans = self._narrowed.get(service, ())
        return any(since_ns <= ended_ns <= (until_ns or ended_ns) for since_ns, until_ns in spans)

    def _note_end_by_limit(self, service: str) -> None:
        """Killed for a limit that was set here: as if by ``kill``."""
        for life in self._one(service).lives[-1:]:
            if life.invited_ns is None and self._by_limit(service, life):
                life.invited_ns = life.child.ended_ns

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


def _keep(file: Path, text: str) -> None:
    """All at once: another thread may be reading."""
    draft = file.with_name(f".{file.name}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
