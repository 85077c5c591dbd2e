"""When the Docker engine fails a run: what the person reads, the exit code, and that nothing is left."""

from __future__ import annotations

import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from harness.check.judge import read_verdict
from harness.errors import EnvironmentBroken
from harness.evidence.folder import RunFolder
from harness.run.cleanup import cleanup
from harness.run.ground import DockerGround, Groundwork, find_ground
from harness.target.docker import images, networks
from harness.target.docker.endpoint import HOST_VARIABLE
from harness.target.docker.images import find_engine_image, pull
from harness.target.docker.subnets import candidates
from harness.target.docker.sweep import things
from harness.target.folder import load_target
from harness.target.supervisor import Supervisor
from tests.conformance.runtime.conftest import TARGET as TINY
from tests.docker_here import build_small, docker_ground, docker_here
from tests.integration.harness_run import ledgerquake, processes_of, wait_until
from tests.integration.test_left_behind import Watched
from tests.private_engine import PrivateEngine, private_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HERE = Path(__file__).parent / "targets"
EXPERIMENT = str(HERE / "standstill.yaml")
UNDER_FAULT = r"f1-pause: injected"


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """An engine of this module's own, with the images of a small target."""
    machine = docker_here()
    build_small(TINY, "ledgerquake/tiny:test")
    made = private_engine(tmp_path_factory.mktemp("engine"))
    try:
        made.load(["ledgerquake/tiny:test", docker_ground().engine.ref], machine)
        yield made
    finally:
        made.close()


@pytest.fixture
def engine(stocked: PrivateEngine) -> Iterator[PrivateEngine]:
    """Up before each test, and empty after it; the test stands in its network."""
    with stocked.inside():
        try:
            yield stocked
            assert things_on(stocked) == []
        finally:
            if not stocked.alive:
                stocked.start()
            with suppress(EnvironmentBroken):
                cleanup()  # what one test leaves is no other's


def things_on(engine: PrivateEngine) -> list[str]:
    return [str(thing) for thing in things(engine.docker())]


@contextmanager
def run_in(reports: Path, reached: str = UNDER_FAULT) -> Iterator[Watched]:
    """A run that has come so far; ended in any case."""
    run = Watched(reports, [EXPERIMENT], "docker")
    try:
        wait_until(lambda: run.saw(reached) or run.process.poll() is not None, 60)
        assert run.saw(reached), "".join(run.lines)
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()


def ends_broken(run: Watched, within_s: float) -> str:
    """It ends with exit code 4 in that time; what it said last of all is returned."""
    assert run.process.wait(within_s) == 4, "".join(run.lines)
    run.drained()
    assert not any("Traceback" in line for line in run.lines), "".join(run.lines)
    return "".join(run.lines).rpartition("relay: ")[2]


# --- an engine that goes away -----------------------------------------------------------------------
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_an_engine_that_goes_in_the_middle_is_told_with_what_is_left_on_it(
    how: str, engine: PrivateEngine, tmp_path: Path
) -> None:
    with run_in(tmp_path) as run:
        {"stop": engine.stop, "kill": engine.kill}[how]()
        said = ends_broken(run, 30)
        first, *rest = said.splitlines()
        assert first == f"the Docker engine at {engine.url} was stopped or restarted in the middle"
        assert len(rest) == 3, said
        assert rest[0].startswith(f"  then: left behind: containers, networks or volumes of run {run.run_id}")
        assert "`ledgerquake cleanup` removes what is left there" in rest[1]
        timeline = RunFolder.open(tmp_path / run.run_id).read_timeline()
        assert timeline.aborted == first
    engine.start()
    assert len(things_on(engine)) > 4
    removed = cleanup()
    assert f"container lq-{run.run_id}-front of run {run.run_id}" in removed
    assert wait_until(lambda: not processes_of(run.run_id), 5)


def test_an_engine_that_is_restarted_in_the_middle_is_told_and_nothing_is_left(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    """Its containers have ended, and none of them is to blame."""
    with run_in(tmp_path) as run:
        engine.stop()
        engine.start()
        said = ends_broken(run, 30)
        assert said.startswith(f"the Docker engine at {engine.url} was stopped or restarted in the middle\n")
        assert "left behind" not in said
        assert not processes_of(run.run_id)


def test_what_is_left_is_removed_when_engine_and_harness_went_together_and_the_engine_is_back(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    with run_in(tmp_path) as run:
        engine.stop()
        run.process.kill()
        run.process.wait()
        time.sleep(2.0)  # whoever removes finds nobody there at first
        engine.start()
        assert wait_until(lambda: not things_on(engine) and not processes_of(run.run_id), 15), (
            things_on(engine),
            processes_of(run.run_id),
        )


def test_an_engine_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    docker_here()
    nowhere = f"unix://{tmp_path}/none.sock"
    started_s = time.monotonic()
    done = ledgerquake(EXPERIMENT, reports=tmp_path / "r", runtime="docker", env={HOST_VARIABLE: nowhere})
    assert done.code == 4 and time.monotonic() - started_s < 5
    assert f"cannot reach a Docker engine at {nowhere}: [Errno 2] No such file" in done.stderr
    assert HOST_VARIABLE in done.stderr and "--runtime process" in done.stderr
    assert done.folder is None


def test_where_there_is_none_processes_are_taken_and_the_reason_is_told(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    ground = find_ground("auto", "builtin", [load_target(TINY)], docker_host=nowhere, say=print)
    assert ground.name == "process"
    assert ground.why.startswith(f"auto: cannot reach a Docker engine at {nowhere}: ")


# --- images -----------------------------------------------------------------------------------------
def test_an_image_that_cannot_be_had_is_named(engine: PrivateEngine, tmp_path: Path) -> None:
    shutil.copytree(HERE, tmp_path / "targets")
    compose = tmp_path / "targets" / "relay" / "compose.yaml"
    compose.write_text(compose.read_text().replace("ledgerquake/tiny:test", "localhost:9/none:1"))
    experiment = str(tmp_path / "targets" / "standstill.yaml")
    done = ledgerquake(experiment, reports=tmp_path / "r", runtime="docker", timeout_s=60)
    assert done.code == 4 and done.verdict is None
    assert "cannot pull image localhost:9/none:1: " in done.stderr and "hint: " in done.stderr


def test_a_pull_that_says_nothing_is_given_up(engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that takes the connection and is silent."""
    monkeypatch.setattr(images, "PULL_QUIET_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ref = f"127.0.0.1:{silent.getsockname()[1]}/none:1"
        with pytest.raises(EnvironmentBroken, match=rf"cannot pull image {ref}: .* said nothing for 0"):
            pull(engine.docker(), ref, print)


# --- disks ------------------------------------------------------------------------------------------
def test_a_full_disk_of_the_engine_is_told(engine: PrivateEngine, tmp_path: Path) -> None:
    with engine.full():
        done = ledgerquake(EXPERIMENT, reports=tmp_path, runtime="docker", timeout_s=60)
    assert done.code == 4 and done.verdict is None
    assert re.search(r"relay: cannot make the \w+ lq-\S+: .*no space left on device\n", done.stderr)
    assert "hint: the engine's disk is full: `docker system df`" in done.stderr


def test_a_full_disk_of_the_harness_is_told(engine: PrivateEngine) -> None:
    """Of its run folder; the message comes although that, too, cannot be written there."""
    reports = engine.on_its_disk("reports")
    with engine.full():
        done = ledgerquake(EXPERIMENT, reports=reports, runtime="docker", timeout_s=60)
    assert done.code == 4 and done.verdict is None
    assert "relay: the disk is full: No space left on device\n  hint: make room where" in done.stderr


# --- what somebody else has taken -------------------------------------------------------------------
def break_ground(engine: PrivateEngine, supervisor: Supervisor, undo: ExitStack) -> None:
    docker = engine.docker()
    ground = DockerGround(docker, find_engine_image(docker))
    work = Groundwork(load_target(TINY), supervisor, 1, None, print, undo.callback)
    ground.break_ground(work).runtime.deploy()


def test_a_subnet_that_is_taken_at_the_last_moment_is_passed_by(
    engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = f"late-{uuid.uuid4().hex[:6]}"
    monkeypatch.setattr(networks, "taken", lambda docker: [])  # nobody had it when we looked
    first, second, *_ = islice(candidates(run_id, []), 2)
    api = engine.docker().api
    api.create_network("quicker", ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=str(first))]))
    try:
        with Supervisor.start(run_id) as supervisor, ExitStack() as undo:
            break_ground(engine, supervisor, undo)
            ours = api.inspect_network(f"lq-{run_id}-client")["IPAM"]["Config"][0]["Subnet"]
            assert ours == str(second)
    finally:
        api.remove_network("quicker")  # it is still there


def take_container(api: Any, name: str) -> Callable[[], object]:
    api.create_container("ledgerquake/tiny:test", name=f"{name}-front")
    return lambda: api.remove_container(f"{name}-front")


def take_network(api: Any, name: str) -> Callable[[], object]:
    api.create_network(f"{name}-front")
    return lambda: api.remove_network(f"{name}-front")


def take_volume(api: Any, name: str) -> Callable[[], object]:
    api.create_volume(f"{name}-store-data")
    api.inspect_volume(f"{name}-store-data")
    return lambda: (api.inspect_volume(f"{name}-store-data"), api.remove_volume(f"{name}-store-data"))


@pytest.mark.parametrize("take", [take_container, take_network, take_volume])
def test_a_name_that_somebody_has_taken_is_told_and_theirs_is_left_alone(
    engine: PrivateEngine, take: Callable[[Any, str], Callable[[], object]]
) -> None:
    run_id = f"taken-{uuid.uuid4().hex[:6]}"
    give_back = take(engine.docker().api, f"lq-{run_id}")
    kind = take.__name__.removeprefix("take_")
    try:
        with (
            Supervisor.start(run_id) as supervisor,
            ExitStack() as undo,
            pytest.raises(
                EnvironmentBroken, match=rf"cannot make the {kind} lq-{run_id}-\S+: .*(already|else)"
            ),
        ):
            break_ground(engine, supervisor, undo)
        assert things_on(engine) == []
    finally:
        give_back()  # raises when it is gone


# --- what dies in the middle ------------------------------------------------------------------------
def test_a_link_engine_that_is_killed_convicts_nobody(engine: PrivateEngine, tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        engine.docker().api.kill(f"lq-{run.run_id}-toxiproxy")
        folder = ends_inconclusive(run, tmp_path)
        assert run.saw("the Toxiproxy engine ended uninvited, exit code -9: the run ends early"), run.lines
        assert [death.service for death in folder.read_timeline().deaths] == ["toxiproxy"]
        assert "ended uninvited" in read_verdict(folder).reasons[0]
        assert folder.read_timeline().collected_ns and folder.operations.exists()


def test_a_service_and_a_witness_that_are_killed_convict_nobody(
    engine: PrivateEngine, tmp_path: Path
) -> None:
    """The run goes on without a service, and ends early without a witness."""
    with run_in(tmp_path) as run:
        engine.docker().api.kill(f"lq-{run.run_id}-store")
        time.sleep(1.0)
        assert run.process.poll() is None and not run.saw("ends early")
        engine.docker().api.kill(f"lq-{run.run_id}-bank")
        folder = ends_inconclusive(run, tmp_path)
        assert run.saw("the witness bank ended uninvited, exit code -9: the run ends early"), run.lines
        deaths = [(death.service, death.exit_code) for death in folder.read_timeline().deaths]
        assert deaths == [("store", -9), ("bank", -9)]
        assert any("store ended uninvited" in reason for reason in read_verdict(folder).reasons)


def ends_inconclusive(run: Watched, reports: Path) -> RunFolder:
    assert run.process.wait(60) == 3, "".join(run.lines)
    run.drained()
    return RunFolder.open(reports / run.run_id)
