"""Plain Compose starts the reference stack, without the harness: in order, by itself, with nothing left."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.target.docker.endpoint import Docker
from harness.target.folder import load_target
from tests.docker_here import docker_here, has_images
from tests.integration.harness_run import ROOT, wait_until

TARGET = ROOT / "targets" / "billing"
PUBLISHED = '"127.0.0.1:8080:8080"'
PROJECT = "com.docker.compose.project"  # the label of all that Compose makes


@cache
def compose() -> tuple[str, ...]:
    """How Compose is called here; skips where it is not installed."""
    for words in (("docker", "compose"), ("docker-compose",)):
        if (
            shutil.which(words[0])
            and subprocess.run([*words, "version"], capture_output=True).returncode == 0
        ):
            return words
    pytest.skip("no Compose here: neither `docker compose` nor `docker-compose`")


def ask(*words: str, file: Path = TARGET / "compose.yaml") -> str:
    done = subprocess.run(
        [*compose(), "--project-directory", str(TARGET), "-f", str(file), *words],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_compose_accepts_the_file() -> None:
    assert set(ask("config", "--services").split()) == set(load_target(TARGET).services)


class Stack:
    """The stack under a project name of this test's own, with edge at a port of the machine's choice."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        self.project = f"ledgerquake-test-{uuid.uuid4().hex[:8]}"
        text = (TARGET / "compose.yaml").read_text()
        assert PUBLISHED in text
        self._file = folder / "compose.yaml"
        self._file.write_text(text.replace(PUBLISHED, '"127.0.0.1::8080"'))

    def ask(self, *words: str) -> str:
        return ask("-p", self.project, *words, file=self._file)

    def url(self, service: str, port: int) -> str:
        """Of a port of the service, at its own address."""
        (one,) = self.containers(f"com.docker.compose.service={service}")
        (network,) = one["NetworkSettings"]["Networks"].values()
        return f"http://{network['IPAddress']}:{port}"

    def containers(self, *labels: str, **filters: str) -> list[dict[str, Any]]:
        wanted = {"label": [f"{PROJECT}={self.project}", *labels], **filters}
        found: list[dict[str, Any]] = self._docker.api.containers(all=True, filters=wanted)
        return found

    def left(self) -> list[str]:
        wanted = {"label": f"{PROJECT}={self.project}"}
        volumes = self._docker.api.volumes(filters=wanted)["Volumes"] or []
        networks = self._docker.api.networks(filters=wanted)
        return [
            *(one["Names"][0] for one in self.containers()),
            *(one["Name"] for one in [*volumes, *networks]),
        ]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    has_images(load_target(TARGET))
    one = Stack(docker_here(), tmp_path)
    try:
        yield one
    finally:
        one.ask("down", "-v")


@pytest.mark.slow
def test_the_stack_comes_up_by_itself_and_a_top_up_is_notified(stack: Stack) -> None:
    stack.ask("up", "-d")
    edge = f"http://{stack.ask('port', 'edge', '8080').strip()}"
    assert wait_until(lambda: overall(edge) == "green", 60), overall(edge)
    services = load_target(TARGET).services
    assert wait_until(lambda: len(stack.containers(health="healthy")) == len(services), 60), stack.ask("ps")
    key = uuid.uuid4().hex
    paid = requests.post(
        f"{edge}/topups",
        json={"subscriber": 7, "amount_minor": 500},
        headers={"Idempotency-Key": key},
        timeout=10,
    )
    assert (paid.status_code, paid.json()["status"]) == (201, "settled"), paid.text
    assert wait_until(lambda: "sub:7" in delivered(stack), 20), "nobody was told"
    stack.ask("down", "-v")
    assert stack.left() == []


def overall(edge: str) -> str:
    try:
        return str(requests.get(f"{edge}/status", timeout=5).json()["overall"])
    except requests.RequestException as problem:
        return str(problem)


def delivered(stack: Stack) -> list[str]:
    """To whom the gateway delivered a message."""
    lines = requests.get(f"{stack.url('gateway', 8090)}/log", timeout=5).text.splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["recipient"] for row in rows if row["event"] == "delivered"]
