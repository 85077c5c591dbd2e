"""For tests that need a Docker engine: the one of this machine, or a skip with the reason.

``LEDGERQUAKE_TESTS_DOCKER=required`` turns the skip into a failure: for a machine that is known to have one.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from harness.errors import EnvironmentBroken
from harness.experiment.target import TargetSpec
from harness.run.ground import DockerGround
from harness.target.docker.building import BASE_ARGUMENT, build_image
from harness.target.docker.context import folder_context
from harness.target.docker.endpoint import Docker, connect
from harness.target.docker.images import find_engine_image, look, obtain_all

BASES = ("ledgerquake/base:bookworm", "python:3.11-slim")
VARIABLE = "LEDGERQUAKE_TESTS_DOCKER"


def docker_here() -> Docker:
    """The engine of this machine; skips (or fails, where one is required)."""
    docker, why = _look()
    if docker is None:
        if os.environ.get(VARIABLE) == "required":
            pytest.fail(f"{VARIABLE}=required, but {why}")
        pytest.skip(f"no Docker here: {why}")
    return docker


@cache
def _look() -> tuple[Docker | None, str]:
    try:
        docker = connect()
        docker.check_within_reach()
        find_engine_image(docker)
        return docker, ""
    except EnvironmentBroken as problem:
        return None, problem.message


def docker_ground(preference: str = "auto") -> DockerGround:
    docker = docker_here()
    return DockerGround(docker, find_engine_image(docker, preference))  # type: ignore[arg-type]


@cache
def build_small(folder: Path, ref: str) -> None:
    """Build a test's own small image on whatever base is here."""
    docker = docker_here()
    base = next((base for base in BASES if look(docker, base)), None)
    if base is None:
        pytest.skip(f"none of {', '.join(BASES)} is here: ledgerquake images build")
    build_image(docker, ref, folder_context(folder), lambda line: None, {BASE_ARGUMENT: base})


def has_images(spec: TargetSpec) -> None:
    """Skips (or fails) when a target's images are not here."""
    try:
        obtain_all(docker_here(), spec, lambda line: None, may_build=False)
    except EnvironmentBroken as problem:
        if os.environ.get(VARIABLE) == "required":
            pytest.fail(problem.message)
        pytest.skip(problem.message)
