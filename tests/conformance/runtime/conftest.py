"""A deployed tiny target per runtime. A runtime is added by one entry in ``RUNTIMES``."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.run.ground import Ground, Groundwork, ProcessGround
from harness.target.docker.labels import OWNER, RUN
from harness.target.folder import load_target
from harness.target.runtime import Runtime
from harness.target.supervisor import Supervisor
from harness.toxiproxy.engine import RunningEngine
from harness.toxiproxy.find import find_engine
from harness.toxiproxy.links import LinkLayer
from tests.docker_here import build_small, docker_ground, docker_here

TARGET = Path(__file__).parent / "target"


def process() -> Ground:
    return ProcessGround(find_engine("builtin"))


def docker() -> Ground:
    ground = docker_ground()
    build_small(TARGET, "ledgerquake/tiny:test")
    return ground


RUNTIMES: dict[str, Callable[[], Ground]] = {"process": process, "docker": docker}
# Two processes may test two runtimes at once: all tests of one runtime go to the same.
GROUPED = [pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in RUNTIMES]


@dataclass
class Deployed:
    """A deployment with its proxies, and a way to talk to its services out of band."""

    supervisor: Supervisor
    runtime: Runtime
    engine: RunningEngine
    links: LinkLayer

    def get(self, service: str, path: str, timeout_s: float = 2.0) -> tuple[int | None, str]:
        """Status (None: no answer) and text."""
        try:
            url = f"http://{self.runtime.address(service, 8080)}/{path}"
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return None, repr(error)

    def eventually(self, true: Callable[[], object], what: str, within_s: float = 5.0) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.02)

    def restart(self, service: str) -> None:
        self.runtime.start(service)
        self.runtime.wait_ready([service], 10)


def new_run_id() -> str:
    return f"conformance-{uuid.uuid4().hex[:8]}"


def come_up(undo: ExitStack, kind: str, run_id: str) -> Deployed:
    supervisor = undo.enter_context(Supervisor.start(run_id))
    work = Groundwork(load_target(TARGET), supervisor, 1, None, print, undo.callback)
    deployed = RUNTIMES[kind]().break_ground(work)
    deployed.runtime.deploy()
    return Deployed(supervisor, deployed.runtime, deployed.engine, deployed.links)


@pytest.fixture(scope="module", params=GROUPED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tiny(kind: str) -> Iterator[Deployed]:
    """One deployment for the tests of a module; each test leaves it whole."""
    with ExitStack() as undo:
        yield come_up(undo, kind, new_run_id())


@pytest.fixture
def fresh(kind: str) -> Iterator[Callable[[], Deployed]]:
    """Deployments of a test's own."""
    with ExitStack() as undo:
        yield lambda: come_up(undo, kind, new_run_id())


@pytest.fixture
def bystander() -> Iterator[str]:
    """A container that is nobody's, one label away from being a run's."""
    api = docker_here().api
    made = api.create_container(
        "ledgerquake/tiny:test", ["sleep", "600"], labels={RUN: "of-somebody-else", OWNER: "{}"}
    )
    api.start(made["Id"])
    try:
        yield made["Id"]
    finally:
        api.remove_container(made["Id"], force=True)
