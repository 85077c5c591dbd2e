"""The stack's image, built for real on a base that is here, and run the way the harness runs it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from harness.errors import EnvironmentBroken
from harness.experiment.target import Build
from harness.target.docker.building import build_image, build_target
from harness.target.docker.context import Context
from harness.target.docker.endpoint import Docker, connect
from harness.target.docker.images import is_stale, look
from harness.target.docker.once import output_of
from harness.toxiproxy.image import builtin_files

BASE = "ledgerquake/base:bookworm"
FRESH_S = 10.0  # for what does not need the network; generous

# What each program misses first when nothing is set: so it was found, and it started.
LACKING = {
    "infra.etcd_node": "environment variable LISTEN is missing",
    "infra.db_node": "environment variable DATA_DIR is missing",
    "infra.broker_node": "environment variable DATA_DIR is missing",
    **{
        f"billing.{name}": "LISTEN must be host:port"
        for name in ("payments", "charging", "mediation", "notify", "roaming", "edge")
    },
    "mutants.retry_without_key": "LISTEN must be host:port",
    "witnesses.psp": "PSP_NAME",
    "witnesses.gateway": "LOG_FILE",
    "witnesses.partner": "LOG_FILE",
}


@pytest.fixture(scope="module")
def docker() -> Docker:
    try:
        engine = connect()
    except EnvironmentBroken as absent:
        pytest.skip(f"no Docker engine: {absent.message}")
    if look(engine, BASE) is None:
        pytest.skip(f"no {BASE}: `ledgerquake images build --offline` makes it")
    return engine


@pytest.fixture
def ref(docker: Docker) -> Iterator[str]:
    """A name of this test's own; what it names is removed."""
    name = f"ledgerquake-test/{uuid.uuid4().hex[:12]}:1"
    yield name
    with suppress(APIError):
        docker.api.remove_image(name, force=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(
        f"ARG BASE_IMAGE={BASE}\nFROM ${{BASE_IMAGE}}\nCOPY main.py /main.py\nUSER 1000:1000\n"
    )
    (tmp_path / "main.py").write_text("import os; print('user', os.getuid())\n")
    return tmp_path


def test_a_folder_becomes_an_image_that_runs(docker: Docker, ref: str, folder: Path) -> None:
    build = Build(context=str(folder))
    said: list[str] = []
    image = build_target(docker, ref, build, said.append, base=BASE)
    assert look(docker, ref) == image and not is_stale(image, build)
    assert any("COPY main.py" in line for line in said)
    assert output_of(docker, ref, ["/main.py"], ["python3"]) == "user 1000"
    started = time.monotonic()
    assert build_target(docker, ref, build, said.append, base=BASE) == image  # nothing has changed
    assert time.monotonic() - started < FRESH_S
    (folder / "main.py").write_text("print('changed')\n")
    assert is_stale(image, build)
    build_target(docker, ref, build, said.append, base=BASE)
    assert output_of(docker, ref, ["/main.py"], ["python3"]) == "changed"
    with pytest.raises(APIError):  # what it was before has no name any more, and is gone
        docker.api.inspect_image(image.id)


def test_a_step_that_fails_leaves_no_container_and_no_image(docker: Docker, ref: str, folder: Path) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    # The step fails on the base itself: what came before it would stay behind as a nameless image.
    (folder / "Dockerfile").write_text(
        f"ARG BASE_IMAGE={BASE}\nFROM ${{BASE_IMAGE}}\nRUN echo {mark}; exit 3\n"
    )
    with pytest.raises(EnvironmentBroken, match=rf"(?s)'RUN echo {mark}; exit 3' failed: .*\n    {mark}"):
        build_target(docker, ref, Build(context=str(folder)), print, base=BASE)
    assert look(docker, ref) is None
    commands: list[dict[str, Any]] = docker.api.containers(all=True)
    assert not [one for one in commands if mark in str(one["Command"])]


def test_the_built_in_engine_answers_from_its_image(docker: Docker, ref: str) -> None:
    build_image(docker, ref, Context(builtin_files()), print, {"BASE_IMAGE": BASE})
    assert "--port" in output_of(docker, ref, ["--help"])


def test_the_stacks_image_is_hardened_and_has_every_program(docker: Docker) -> None:
    name = "ledgerquake/billing:dev"
    if look(docker, name) is None:
        pytest.skip(f"no {name}: `ledgerquake images build` makes it")
    assert output_of(docker, name, ["python", "-c", "import os; print(os.getuid())"]) == "1000"
    for module, lacks in LACKING.items():
        assert lacks in output_of(docker, name, ["python", "-m", module]), module
    alone = "from infra.db_node import apart; print(apart())"
    assert output_of(docker, name, ["python", "-c", alone]) == "[]"  # and no warning
    assert '"postgres"' in output_of(docker, name, ["python", "-m", "infra.versions"])
