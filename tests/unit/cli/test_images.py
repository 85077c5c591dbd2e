"""``images``: what it refuses before anything is made, and where bases, wheels and mirrors come from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.images import images
from harness.errors import EnvironmentBroken, InputError, LedgerquakeError
from harness.target.docker import base_image, wheels
from harness.target.docker.endpoint import Docker
from harness.target.docker.wheels import Interpreter

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Interpreter("3.11", "x86_64", 36)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(images, arguments)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LEDGERQUAKE_DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


@pytest.mark.parametrize("option", [("--suite", "trixie"), ("--mirror", "http://mirror.example")])
@pytest.mark.parametrize("other", [(), ("--offline", "--base", "mine:1")])
def test_a_mirror_without_a_base_to_make_is_wrong_usage(
    option: tuple[str, ...], other: tuple[str, ...]
) -> None:
    done = call("build", *option, *other)
    assert done.exit_code == 2 and "for the base that --offline makes" in done.output


@pytest.mark.parametrize("command", ["build", "list"])
def test_an_unknown_target_is_told_with_the_nearest_one(command: str) -> None:
    done = call(command, "biling")
    assert isinstance(done.exception, InputError)
    assert "no target is called 'biling'" in str(done.exception) and "billing" in str(done.exception.hint)


def test_without_an_engine_it_is_the_environment_that_is_broken() -> None:
    done = call("build", "--offline", "billing")
    assert isinstance(done.exception, EnvironmentBroken) and "nobody.sock" in str(done.exception)


def test_given_wheels_need_pip_among_them(tmp_path: Path) -> None:
    done = call("build", "--offline", "--wheels", str(tmp_path), "billing")
    assert isinstance(done.exception, InputError) and "pip wheel --wheel-dir" in str(done.exception.hint)


def engine() -> Docker:
    class Empty:
        def inspect_image(self, ref: str) -> None:
            from docker.errors import ImageNotFound

            raise ImageNotFound(ref)

    return Docker(Empty(), "unix:///nowhere.sock", "ID", "20.10", "1.41")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("user", "programs", "says"),
    [(1000, "/usr/bin", "needs root"), (0, "/nowhere", "no 'debootstrap' on PATH")],
)
def test_a_base_that_cannot_be_made_says_why_and_what_else_would_do(
    monkeypatch: pytest.MonkeyPatch, user: int, programs: str, says: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("PATH", programs)
    with pytest.raises(EnvironmentBroken, match=says) as broken:
        base_image.make_base(engine(), "bookworm", print)
    assert "--base IMAGE" in str(broken.value.hint)


def a_program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_mirror_is_the_one_that_apt_uses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_program(
        tmp_path,
        "apt-get",
        "echo 'http://first.example/debian-security bookworm-security\n"
        "http://second.example/debian bookworm\nhttp://third.example/debian bookworm'",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert base_image.apt_mirror("bookworm") == "http://second.example/debian"
    assert base_image.apt_mirror("trixie") is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert base_image.apt_mirror("bookworm") is None


def test_wheels_are_collected_once_and_sources_made_into_wheels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def pip(arguments: list[str]) -> None:
        asked.append(list(arguments))
        if arguments[0] == "download":
            into = Path(arguments[arguments.index("--dest") + 1])
            (into / "a-1-py3-none-any.whl").write_bytes(b"")
            (into / "b-1.tar.gz").write_bytes(b"")
        else:
            into = Path(arguments[arguments.index("--wheel-dir") + 1])
            (into / "b-1-py3-none-any.whl").write_bytes(b"")

    monkeypatch.setattr(wheels, "_pip", pip)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("a==1\nb==1\n")
    folder = wheels.collect(requirements, PYTHON, print)
    assert sorted(file.name for file in folder.iterdir()) == ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"]
    assert "pip" in asked[0] and "manylinux_2_36_x86_64" in asked[0] and asked[1][0] == "wheel"
    assert wheels.collect(requirements, PYTHON, print) == folder and len(asked) == 2
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]  # nothing half made
    requirements.write_text("a==2\n")
    assert wheels.collect(requirements, PYTHON, print) != folder


def test_a_pip_that_fails_says_so_and_leaves_nothing_half_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found for a==1\n")

    monkeypatch.setattr(subprocess, "run", run)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("a==1\n")
    with pytest.raises(LedgerquakeError, match=r"No matching distribution found for a==1\n.*--wheels DIR"):
        wheels.collect(requirements, PYTHON, print)
    assert list(wheels.cache_dir().iterdir()) == []
