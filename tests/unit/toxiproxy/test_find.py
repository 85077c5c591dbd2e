"""The order in which an engine is looked for."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from harness.errors import EnvironmentBroken
from harness.toxiproxy import find
from harness.toxiproxy.find import find_engine


def program(folder: Path, version: str) -> Path:
    """A program that answers ``-version`` as a Toxiproxy server does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toxiproxy-server"
    path.write_text(f"#!/bin/sh\necho toxiproxy-server version {version}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No server anywhere, no Go."""
    monkeypatch.delenv("TOXIPROXY_SERVER", raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(find, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path


def test_each_place_wins_over_the_later_ones(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = bare_machine / "tools"

    def found() -> tuple[str, str]:
        choice = find_engine("auto", tools_dir=tools)
        return choice.kind, choice.version

    assert found() == ("builtin", find.BUILTIN_VERSION)
    program(bare_machine / "cache", "2.12.1")
    assert found() == ("server", "2.12.1")
    program(tools, "2.12.2")
    assert found() == ("server", "2.12.2")
    monkeypatch.setenv("PATH", f"{program(bare_machine / 'bin', 'v2.12.3').parent}:/bin")
    assert found() == ("server", "2.12.3")
    monkeypatch.setenv("TOXIPROXY_SERVER", str(program(bare_machine / "env", "2.12.4")))
    assert found() == ("server", "2.12.4")
    assert find_engine("auto").label == "server 2.12.4"
    assert find_engine("builtin").argv[0] == sys.executable


def test_a_build_without_a_version_is_read_from_its_build_record(bare_machine: Path) -> None:
    path = program(bare_machine / "tools", "git")
    path.write_text(path.read_text() + f"exit 0\nmod\t{find.MODULE}\tv2.12.0\th1:sum=\n")
    assert find_engine("server", tools_dir=bare_machine / "tools").version == "2.12.0"


def test_demanding_a_server_that_is_not_there_says_where_it_was_looked_for(bare_machine: Path) -> None:
    with pytest.raises(EnvironmentBroken, match="TOXIPROXY_SERVER, PATH, the tools folder") as caught:
        find_engine("server", tools_dir=bare_machine, install=True)
    assert "Go is not here" in str(caught.value) and "--toxiproxy builtin" in str(caught.value)


def test_a_wrong_toxiproxy_server_variable_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOXIPROXY_SERVER", "/nowhere/toxiproxy")
    with pytest.raises(EnvironmentBroken, match="'/nowhere/toxiproxy', which is not an executable"):
        find_engine("auto")
