"""Which Toxiproxy engine this machine has.

The real server is preferred; the built-in one needs nothing but Python. Order of the search:
``TOXIPROXY_SERVER`` (a path), ``toxiproxy-server`` on PATH, the project's tools folder, the user's
cache, and, only when asked to install, a build by Go of the one released version named here.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import EnvironmentBroken
from harness.toxiproxy.builtin import VERSION as BUILTIN_VERSION

SERVER = "toxiproxy-server"
MODULE = "github.com/Shopify/toxiproxy/v2"
INSTALLED_VERSION = "2.12.0"
BUILD_TIMEOUT_S = 300.0

Preference = Literal["auto", "server", "builtin"]


@dataclass(frozen=True)
class EngineChoice:
    """An engine that can be started: ``argv`` without host and port, and ``found``, where it was."""

    kind: Literal["server", "builtin"]
    version: str
    argv: tuple[str, ...]
    found: str

    @property
    def label(self) -> str:
        """For reports: ``server 2.12.0`` or ``builtin``."""
        return "builtin" if self.kind == "builtin" else f"server {self.version}"


def find_engine(
    preference: Preference = "auto", *, tools_dir: Path | None = None, install: bool = False
) -> EngineChoice:
    """The engine to use. Raises EnvironmentBroken when ``server`` is demanded and there is none."""
    if preference == "builtin":
        return _builtin("asked for")
    for path, found in _places(tools_dir):
        if path.is_file() and os.access(path, os.X_OK):
            return EngineChoice("server", _version(path), (str(path), "-proxy-metrics"), found)
    tried = "none of TOXIPROXY_SERVER, PATH, the tools folder and the cache has it"
    if install:
        built, why = _install()
        if built is not None:
            return EngineChoice("server", _version(built), (str(built), "-proxy-metrics"), "built with Go")
        tried = f"{tried}; {why}"
    if preference == "server":
        raise EnvironmentBroken(
            f"no Toxiproxy server on this machine: {tried}",
            hint=f"install Go and run 'make engine', put {SERVER} {INSTALLED_VERSION} on PATH, "
            "or use the engine that is built in: --toxiproxy builtin",
        )
    return _builtin(tried)


def cache_dir() -> Path:
    return Path.home() / ".cache" / "ledgerquake" / "bin"


def _places(tools_dir: Path | None) -> list[tuple[Path, str]]:
    places: list[tuple[Path, str]] = []
    if named := os.environ.get("TOXIPROXY_SERVER"):
        path = Path(named)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise EnvironmentBroken(
                f"TOXIPROXY_SERVER names {named!r}, which is not an executable file",
                hint="point it at a Toxiproxy server, or unset it",
            )
        places.append((path, "TOXIPROXY_SERVER"))
    if on_path := shutil.which(SERVER):
        places.append((Path(on_path), "PATH"))
    project = Path(__file__).resolve().parents[2]
    folders = [tools_dir] if tools_dir else [Path.cwd() / ".tools" / "bin", project / ".tools" / "bin"]
    return [*places, *((folder / SERVER, str(folder)) for folder in (*folders, cache_dir()))]


def _builtin(why: str) -> EngineChoice:
    argv = (sys.executable, "-m", "harness.toxiproxy.builtin")
    return EngineChoice("builtin", BUILTIN_VERSION, argv, why)


def _version(path: Path) -> str:
    """What the server calls itself; a build by ``go install`` says "git", its build record knows better."""
    try:
        said = subprocess.run([str(path), "-version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentBroken(f"{path} does not run as a Toxiproxy server: {error}") from error
    words = said.stdout.split()
    version = words[-1].removeprefix("v") if words else "unknown"
    return version if version[0].isdigit() else (_recorded_version(path) or version)


def _recorded_version(path: Path) -> str | None:
    """The module version that Go wrote into the binary, readable without Go."""
    record = re.compile(rb"mod\t" + re.escape(MODULE.encode()) + rb"\tv(\d[\w.+-]*)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        match = record.search(content)
        return match[1].decode() if match and match[1] else None


def _install() -> tuple[Path | None, str]:
    """Build the server with Go into the user's cache; the path, or None and why not."""
    if shutil.which("go") is None:
        return None, "Go is not here to build it"
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    command = ["go", "install", f"{MODULE}/cmd/server@v{INSTALLED_VERSION}"]
    environment = {**os.environ, "GOBIN": str(folder)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"Go did not build it within {BUILD_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        return None, f"Go could not build it: {done.stderr.strip()[-300:]}"
    (folder / "server").replace(folder / SERVER)
    return folder / SERVER, ""
