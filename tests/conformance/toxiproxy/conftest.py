"""Each test of this folder runs against the real Toxiproxy server and against the built-in engine."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from harness.errors import EnvironmentBroken
from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine, EngineChoice, find_engine
from harness.toxiproxy.links import EngineRestart, LinkLayer
from tests.conformance.toxiproxy import upstreams


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((upstreams.HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session", params=["server", "builtin"])
def choice(request: pytest.FixtureRequest) -> EngineChoice:
    try:
        return find_engine(request.param)
    except EnvironmentBroken as missing:
        pytest.skip(f"the real server is not tested: {missing.message}")


@pytest.fixture(scope="session")
def spawner() -> Iterator[LocalSpawner]:
    spawner = LocalSpawner()
    yield spawner
    spawner.close()


@pytest.fixture(scope="session")
def engine(
    choice: EngineChoice, spawner: LocalSpawner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    log: Path = tmp_path_factory.mktemp(choice.kind) / "engine.log"
    engine = Engine.start(choice, spawner, log, port=free_port())
    yield engine
    engine.stop()


@dataclass
class Bench:
    """A link layer on a fresh engine state, and upstreams to lead links to."""

    links: LinkLayer
    api: str
    restarts: list[EngineRestart]
    upstreams: list[upstreams.Upstream] = field(default_factory=list)

    def serve(self, behave: Callable[[socket.socket], None]) -> upstreams.Upstream:
        self.upstreams.append(upstreams.Upstream(behave))
        return self.upstreams[-1]

    def link(self, behave: Callable[[socket.socket], None], name: str = "a->b:8008") -> str:
        """Where a link named ``name`` to such an upstream listens."""
        return self.links.create(name, f"{upstreams.HOST}:0", self.serve(behave).address)


@pytest.fixture
def bench(engine: Engine) -> Iterator[Bench]:
    api = f"http://{engine.host}:{engine.port}"
    restarts: list[EngineRestart] = []
    bench = Bench(LinkLayer(engine, on_restart=restarts.append, timeout_s=1.0), api, restarts)
    yield bench
    for upstream in bench.upstreams:
        upstream.close()
    for name in requests.get(f"{api}/proxies", timeout=5).json():
        requests.delete(f"{api}/proxies/{requests.utils.quote(name, safe='')}", timeout=5)
