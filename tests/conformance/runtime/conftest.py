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

from harness.target.folder import load_target
from harness.target.process import ProcessRuntime
from harness.target.runtime import Runtime
from harness.target.supervisor import Supervisor
from harness.toxiproxy.engine import Engine
from harness.toxiproxy.find import find_engine
from harness.toxiproxy.links import LinkLayer

TARGET = Path(__file__).parent / "target"


def process_runtime(supervisor: Supervisor) -> Runtime:
    return ProcessRuntime(
        load_target(TARGET),
        run_id=supervisor.run_id,
        scratch=supervisor.scratch,
        supervisor=supervisor,
        seed=1,
    )


RUNTIMES: dict[str, Callable[[Supervisor], Runtime]] = {"process": process_runtime}


@dataclass
class Deployed:
    """A deployment with its proxies, and a way to talk to its services out of band."""

    supervisor: Supervisor
    runtime: Runtime
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
    runtime = RUNTIMES[kind](supervisor)
    undo.callback(runtime.teardown)
    ends = runtime.prepare()
    engine = Engine.start(
        find_engine("builtin"),
        supervisor,
        supervisor.scratch / "logs" / "toxiproxy.log",
        port=runtime.spare_port(),  # type: ignore[attr-defined]
    )
    links = LinkLayer(engine)
    for link in ends.values():
        links.create(link.name, str(link.listen), str(link.upstream))
    runtime.deploy()
    return Deployed(supervisor, runtime, links)


@pytest.fixture(scope="module", params=list(RUNTIMES))
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
