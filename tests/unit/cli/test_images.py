"""``images``: what it refuses before anything is made, and where bases, wheels and mirrors come from."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result
from docker.errors import ImageNotFound

from harness.cli.images import _Work, images
from harness.errors import EnvironmentBroken, InputError, LedgerquakeError
from harness.target.docker import base_image, endpoint, once, wheels
from harness.target.docker.building import BASE, FILES
from harness.target.docker.context import Context, folder_context
from harness.target.docker.endpoint import Docker
from harness.target.docker.images import BUILTIN, ENGINE_VARIABLE, SERVER, find_engine_image
from harness.target.docker.wheels import Interpreter
from harness.toxiproxy import find
from harness.toxiproxy.builtin import VERSION
from harness.toxiproxy.find import EngineChoice
from harness.toxiproxy.image import builtin_files

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "conformance" / "runtime" / "target"
TINY_IMAGE = "ledgerquake/tiny:test"
PYTHON = Interpreter("3.11", "x86_64", 36)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(images, arguments)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
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


@pytest.mark.parametrize("said", ["3.11 x86_64", "3.12 x86_64 musl 1.2", "python3: not found"])
def test_a_base_on_another_c_library_gets_no_wheels(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(wheels, "output_of", lambda *_: said)
    with pytest.raises(EnvironmentBroken, match=f"no wheels can be collected for image mine:1: .*{said}"):
        wheels.interpreter_of(engine(), "mine:1")


def test_an_interpreter_is_what_the_base_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "output_of", lambda *_: "3.11 x86_64 glibc 2.36")
    assert wheels.interpreter_of(engine(), "mine:1") == PYTHON


class Importing:
    """Takes what is imported, and answers ``answer``."""

    def __init__(self, answer: str = '{"status":"sha256:1"}') -> None:
        self.answer = answer
        self.taken: bytes | None = None
        self.removed: list[str] = []

    def inspect_image(self, ref: str) -> dict[str, str]:
        if self.taken is None:
            raise ImageNotFound(ref)
        return {"Id": "sha256:1"}

    def import_image(self, src: IO[bytes], **options: object) -> str:
        self.taken = src.read()
        return self.answer

    def remove_image(self, ref: str) -> None:
        self.removed.append(ref)

    def make(self) -> str:
        docker = Docker(self, "unix:///nowhere.sock", "ID", "20.10", "1.41")  # type: ignore[arg-type]
        return base_image.make_base(docker, "bookworm", print, mirror="http://mirror.example").ref


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of programs that make a base, to be spoilt."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("debootstrap", "unshare"):
        a_program(tmp_path, name, "exit 0")
    a_program(tmp_path, "tar", "printf whole")
    return tmp_path


@pytest.mark.usefixtures("programs")
def test_a_base_is_what_debootstrap_made() -> None:
    api = Importing()
    assert api.make() == "ledgerquake/base:bookworm"
    assert api.taken == b"whole" and not api.removed


def test_a_debootstrap_that_fails_is_told_with_its_last_lines(programs: Path) -> None:
    a_program(programs, "unshare", "echo 'I: Retrieving x'; echo 'E: no such suite'; exit 3")
    api = Importing()
    with pytest.raises(
        EnvironmentBroken, match=r"'bookworm' from http://mirror\.example: it ended with 3\n"
    ) as no:
        api.make()
    assert no.value.message.endswith("E: no such suite") and api.taken is None


def test_a_debootstrap_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, programs: Path) -> None:
    monkeypatch.setattr(base_image, "LONGEST_S", 0.1)
    a_program(programs, "unshare", "exec sleep 20")
    started = time.monotonic()
    with pytest.raises(EnvironmentBroken, match="it ended with -9"):
        Importing().make()
    assert time.monotonic() - started < 10


def test_half_a_base_is_not_left_there(programs: Path) -> None:
    a_program(programs, "tar", "printf half; echo 'cannot read etc' >&2; exit 2")
    api = Importing()
    with pytest.raises(EnvironmentBroken, match="base:bookworm: tar ended with 2: cannot read etc"):
        api.make()
    assert api.removed == ["ledgerquake/base:bookworm"]


@pytest.mark.usefixtures("programs")
def test_an_engine_that_cannot_take_a_base_says_why() -> None:
    api = Importing('{"status":"1"}\r\n{"errorDetail":{},"error":"no space left on device"}\r\n')
    with pytest.raises(
        EnvironmentBroken, match=r"base:bookworm: no space left on device\n.*docker system df"
    ):
        api.make()


class Holding:
    """Images and their labels; what is built is held from then on."""

    def __init__(self, **held: dict[str, str]) -> None:
        self.held = held

    def inspect_image(self, ref: str) -> dict[str, Any]:
        if ref not in self.held:
            raise ImageNotFound(ref)
        return {"Id": "sha256:0123456789abcdef", "Config": {"Labels": self.held[ref]}}

    def images(self, name: str) -> list[dict[str, Any]]:
        return [{"RepoTags": [ref]} for ref in self.held if ref.startswith(f"{name}:")]

    def build(self, tag: str, labels: dict[str, str], **options: object) -> list[dict[str, str]]:
        self.held[tag] = labels
        return []

    def remove_image(self, ref: str) -> None:
        del self.held[ref]

    def docker(self) -> Docker:
        return Docker(self, "unix:///here.sock", "ID", "20.10", "1.41")  # type: ignore[arg-type]


def state_of_tiny(monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None) -> tuple[str, str]:
    """The lines of the tiny target's image and of the link engine."""
    held = {} if labels is None else {TINY_IMAGE: labels, f"{BUILTIN}:1": labels}
    monkeypatch.setattr(endpoint, "connect", lambda *_: Holding(**held).docker())
    done = call("list", str(TINY))
    assert done.exit_code == 0, done.output
    first, second = (" ".join(line.split()) for line in done.output.splitlines())
    return first, second


def test_the_list_tells_absent_stale_and_present_images(monkeypatch: pytest.MonkeyPatch) -> None:
    image, link_engine = state_of_tiny(monkeypatch, None)
    assert image.startswith(f"{TINY_IMAGE} absent built from") and link_engine.startswith(
        "link engine absent"
    )
    image, link_engine = state_of_tiny(monkeypatch, {FILES: "others"})
    assert image.startswith(f"{TINY_IMAGE} stale built from")
    assert link_engine.startswith(f"{BUILTIN}:1 stale link engine: ledgerquake images build")
    image, _ = state_of_tiny(monkeypatch, {FILES: folder_context(TINY).digest()})
    assert image.startswith(f"{TINY_IMAGE} present built from")
    image, _ = state_of_tiny(monkeypatch, {})
    assert image.startswith(f"{TINY_IMAGE} present built elsewhere")
    _, link_engine = state_of_tiny(monkeypatch, {FILES: Context(builtin_files()).digest()})
    assert link_engine == f"{BUILTIN}:1 present link engine: builtin"


def test_both_link_engines_say_what_they_were_built_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a_program(tmp_path, "toxiproxy-server", "exit 0")
    here = EngineChoice("server", "2.12.0", (str(tmp_path / "toxiproxy-server"),), "on PATH")
    monkeypatch.setattr(find, "find_engine", lambda preference: here)
    monkeypatch.setattr(once, "output_of", lambda *_: "--port, version")
    api = Holding()
    _Work(api.docker(), "mine:1", None, True, False).engines()
    assert api.held == {
        f"{BUILTIN}:{VERSION}": {FILES: Context(builtin_files()).digest(), BASE: "mine:1"},
        f"{SERVER}:2.12.0": {FILES: api.held[f"{SERVER}:2.12.0"][FILES], BASE: "mine:1"},
    }
    assert find_engine_image(api.docker(), "builtin").label == "builtin"


def test_an_engine_that_does_not_run_on_its_base_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "output_of", lambda *_: "GLIBC_2.38 not found")
    api = Holding()
    with pytest.raises(EnvironmentBroken, match=r"does not run on mine:1: GLIBC_2\.38 not found\n.*--base"):
        _Work(api.docker(), "mine:1", None, True, False).engines()
    assert api.held == {}
