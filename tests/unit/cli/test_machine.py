"""``doctor`` on Docker: what it says of an engine, and that none of it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docker.errors import ImageNotFound

from harness.cli.machine import doctor
from harness.target.docker import endpoint
from harness.target.docker.building import FILES
from harness.target.docker.context import Context
from harness.target.docker.endpoint import Docker
from harness.target.docker.images import SERVER
from harness.toxiproxy.image import builtin_files

ROOT = Path(__file__).resolve().parents[3]
STACK = "ledgerquake/billing:dev"
ENGINE = f"{SERVER}:2.12.9"
CURRENT = {FILES: Context(builtin_files()).digest()}


class Engine:
    """``held``: images and their labels. There is one network besides."""

    def __init__(self, **held: dict[str, str]) -> None:
        self.held = held

    def inspect_image(self, ref: str) -> dict[str, Any]:
        if ref not in self.held:
            raise ImageNotFound(ref)
        return {"Id": "sha256:0123456789abcdef", "Config": {"Labels": self.held[ref]}, "RepoTags": [ref]}

    def images(self, name: str) -> list[dict[str, Any]]:
        return [{"RepoTags": [ref]} for ref in self.held if ref.startswith(f"{name}:")]

    def networks(self) -> list[dict[str, Any]]:
        return [{"IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}]


def told(monkeypatch: pytest.MonkeyPatch, engine: Engine, apart: str | None = None) -> dict[str, str]:
    """What it says of Docker, by subject; it ends with 0 whatever that is."""
    docker = Docker(engine, "unix:///here.sock", "DAEMON", "20.10", "1.41", apart)  # type: ignore[arg-type]
    monkeypatch.setattr(endpoint, "connect", lambda **_: docker)
    return lines()


def lines() -> dict[str, str]:
    done = CliRunner().invoke(doctor, standalone_mode=False)
    assert done.return_value == 0, done.output
    rows = [line.split(maxsplit=1) for line in done.output.splitlines()]
    about = {row[1].split("  ")[0]: " ".join([row[0], *row[1].split("  ", 1)[1].split()]) for row in rows}
    return {what: text for what, text in about.items() if what.startswith("Docker")}


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("LEDGERQUAKE_TOXIPROXY_IMAGE", "LEDGERQUAKE_SUBNETS"):
        monkeypatch.delenv(name, raising=False)


def test_an_engine_with_all_that_a_run_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, Engine(**{STACK: {}, ENGINE: CURRENT}))
    assert said["Docker"] == "ok 20.10 (API 1.41) at unix:///here.sock, daemon DAEMON"
    assert said["Docker link engine"] == f"ok server 2.12.9 ({ENGINE})"
    assert said["Docker image"] == f"ok {STACK} (0123456789ab)"
    assert said["Docker subnets"].startswith("ok from 198.18.0.0/15, for instance 198.")


def test_what_is_absent_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, Engine())
    for what in ("Docker link engine", "Docker image"):
        assert said[what].startswith("absent ") and "ledgerquake images build" in said[what]


def test_an_image_of_other_files_is_not_good(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, Engine(**{STACK: {FILES: "others"}, ENGINE: CURRENT}))
    assert said["Docker image"].startswith(f"absent {STACK} was built from other files")


def test_an_image_that_is_named_is_not_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERQUAKE_TOXIPROXY_IMAGE", "mine/toxiproxy:3")
    said = told(monkeypatch, Engine())
    assert said["Docker link engine"] == "absent mine/toxiproxy:3 is not here; a run would pull it"


def test_a_range_without_a_free_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERQUAKE_SUBNETS", "172.17.0.0/20")
    assert "no free subnet is left in 172.17.0.0/20" in told(monkeypatch, Engine())["Docker subnets"]


def test_an_engine_out_of_reach_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, Engine(), apart="is rootless")
    assert list(said) == ["Docker"]
    assert said["Docker"].startswith("absent the Docker engine at unix:///here.sock is rootless")


@pytest.mark.parametrize("host", ["unix:///nobody.sock", "nonsense://x"])
def test_without_an_engine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGERQUAKE_DOCKER_HOST", host)
    said = lines()
    assert list(said) == ["Docker"] and said["Docker"].startswith("absent ") and host in said["Docker"]
    assert "--runtime process needs none" in said["Docker"]
