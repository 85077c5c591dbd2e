"""Where a run can take place: as plain processes or in Docker, chosen before anything is started.

A ``Ground`` makes the runtime and starts the link engine in it; the stage does not care which it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from harness.errors import EnvironmentBroken
from harness.experiment.target import Mutant, TargetSpec
from harness.experiment.vocabulary import Ability, abilities_of
from harness.target.order import never
from harness.target.process import ProcessRuntime
from harness.target.runtime import LinkEnds, Runtime, RuntimeName
from harness.target.supervisor import Supervisor
from harness.toxiproxy.engine import Engine, RunningEngine
from harness.toxiproxy.find import EngineChoice, Preference, find_engine
from harness.toxiproxy.links import EngineRestart, LinkLayer

if TYPE_CHECKING:  # the SDK takes its time to import, and processes do not need it
    from harness.target.docker.endpoint import Docker
    from harness.target.docker.images import EngineImage

RuntimePreference = Literal["auto", "process", "docker"]
Say = Callable[[str], None]
Undo = Callable[[Callable[[], None]], object]
OnRestart = Callable[[EngineRestart], None]


@dataclass(frozen=True)
class Groundwork:
    """What a ground is broken for.

    ``mutant`` takes the place of its service. ``say`` is told what may take its time, ``undo`` what takes
    each thing down again, ``on_restart`` when the link engine was replaced. ``stopping``: whether somebody
    wants it all to end.
    """

    spec: TargetSpec
    supervisor: Supervisor
    seed: int
    mutant: Mutant | None
    say: Say
    undo: Undo
    on_restart: OnRestart | None = None
    stopping: Callable[[], bool] = never


@dataclass(frozen=True)
class Deployed:
    """A runtime with its link engine up and all links made; the first services may be starting already."""

    runtime: Runtime
    links: LinkLayer
    engine: RunningEngine


class Ground(Protocol):
    """``why`` says for people why it was chosen."""

    @property
    def name(self) -> RuntimeName: ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def engine_label(self) -> str: ...

    @property
    def why(self) -> str: ...

    def break_ground(self, work: Groundwork) -> Deployed:
        """Make the runtime, start the engine, make the links. Raises EnvironmentBroken, Aborted."""
        ...


@dataclass(frozen=True)
class ProcessGround:
    """Plain processes on loopback."""

    engine: EngineChoice
    why: str = "asked for"
    name: RuntimeName = "process"
    abilities: frozenset[Ability] = abilities_of("process")

    @property
    def engine_label(self) -> str:
        return self.engine.label

    def break_ground(self, work: Groundwork) -> Deployed:
        supervisor, scratch = work.supervisor, work.supervisor.scratch
        runtime = ProcessRuntime(
            work.spec, run_id=supervisor.run_id, scratch=scratch, supervisor=supervisor, seed=work.seed
        )
        work.undo(runtime.teardown)
        _put_in(runtime, work.mutant)
        ends = runtime.prepare()
        log = scratch / "logs" / "toxiproxy.log"
        engine = Engine.start(self.engine, supervisor, log, port=runtime.spare_port())
        work.undo(engine.stop)
        return Deployed(runtime, _make_links(engine, ends, work.on_restart), engine)


@dataclass(frozen=True)
class DockerGround:
    """Containers on an engine that answered and has the images."""

    docker: Docker
    engine: EngineImage
    why: str = "asked for"
    name: RuntimeName = "docker"
    abilities: frozenset[Ability] = abilities_of("docker")

    @property
    def engine_label(self) -> str:
        return self.engine.label

    def break_ground(self, work: Groundwork) -> Deployed:
        from harness.target.docker.images import obtain_all
        from harness.target.docker.runtime import DockerRuntime

        work.say(str(self.docker))
        runtime = DockerRuntime(
            work.spec,
            run_id=work.supervisor.run_id,
            scratch=work.supervisor.scratch,
            supervisor=work.supervisor,
            docker=self.docker,
            images=obtain_all(self.docker, work.spec, work.say, may_build=False),
        )
        work.undo(runtime.teardown)
        _put_in(runtime, work.mutant)
        first = runtime.prepare_first()
        engine = runtime.start_engine(self.engine)  # it goes with the other containers
        links = _make_links(engine, first, work.on_restart)
        with _meanwhile(runtime.start_first, work.stopping):
            rest = {name: ends for name, ends in runtime.prepare().items() if name not in first}
            _add_links(links, rest)
        return Deployed(runtime, links, engine)


@contextmanager
def _meanwhile(start: Callable[[Callable[[], bool]], object], stopping: Callable[[], bool]) -> Iterator[None]:
    """``start`` runs beside the block and is over at its end; it is told to stop when the block fails."""
    failed = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="first") as pool:
        starting = pool.submit(start, lambda: failed.is_set() or stopping())
        try:
            yield
        except BaseException:
            failed.set()
            raise
        starting.result()


def _make_links(
    engine: RunningEngine, ends: Mapping[str, LinkEnds], on_restart: OnRestart | None
) -> LinkLayer:
    links = LinkLayer(engine, on_restart=on_restart)
    _add_links(links, ends)
    return links


def _add_links(links: LinkLayer, ends: Mapping[str, LinkEnds]) -> None:
    for link in ends.values():
        links.create(link.name, str(link.listen), str(link.upstream))


def _put_in(runtime: Runtime, mutant: Mutant | None) -> None:
    if mutant is not None:
        runtime.replace(mutant.service, mutant.process)


def find_ground(
    preference: RuntimePreference,
    toxiproxy: Preference,
    specs: Sequence[TargetSpec],
    *,
    docker_host: str | None = None,
    say: Say,
) -> Ground:
    """The ground for these targets. ``auto``: Docker when an engine answers and has all their images.

    Raises EnvironmentBroken when what was asked for by name is not to be had, InputError for a host that
    cannot be read.
    """
    if preference == "process":
        return ProcessGround(find_engine(toxiproxy))
    if preference == "docker":
        return _docker_ground(toxiproxy, specs, docker_host, say, asked_for=True)
    try:
        return _docker_ground(toxiproxy, specs, docker_host, say, asked_for=False)
    except EnvironmentBroken as without:
        return ProcessGround(find_engine(toxiproxy), f"auto: {without.message}")


def _docker_ground(
    toxiproxy: Preference, specs: Sequence[TargetSpec], docker_host: str | None, say: Say, *, asked_for: bool
) -> DockerGround:
    """Where nobody asked for Docker by name, nothing is pulled or built: that takes minutes."""
    from harness.target.docker.endpoint import connect
    from harness.target.docker.images import find_engine_image, obtain_all

    docker = connect(docker_host)
    docker.check_within_reach()
    engine = find_engine_image(docker, toxiproxy, say, may_pull=asked_for)
    for spec in specs:
        obtain_all(docker, spec, say, may_build=asked_for)
    why = "asked for" if asked_for else "auto: a Docker engine answers, and has all images"
    return DockerGround(docker, engine, why)
