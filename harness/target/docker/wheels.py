"""Wheels for an image whose build asks no index: collected here, with this machine's pip and its settings.

They are for the base's Python, not for this one. What has no wheel for it is made into one here. The
list of requirements must be whole (pinned, with what each of them needs itself): nothing is resolved.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import EnvironmentBroken, InputError
from harness.target.docker.building import Say
from harness.target.docker.endpoint import Docker
from harness.target.docker.once import output_of

LONGEST_S = 1800
OLDEST_GLIBC = 5  # 2.5: manylinux1
LEGACY = ("manylinux2014", "manylinux2010", "manylinux1")
_QUESTION = (
    "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine(), *platform.libc_ver())"
)


@dataclass(frozen=True)
class Interpreter:
    """What a base has: ``python`` as 3.11, ``machine`` as x86_64, ``glibc`` as the 36 of 2.36."""

    python: str
    machine: str
    glibc: int

    def platforms(self) -> list[str]:
        """The names of platforms whose wheels run there, the best first."""
        numbered = [f"manylinux_2_{minor}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)]
        return [f"{name}_{self.machine}" for name in (*numbered, *LEGACY)]


def interpreter_of(docker: Docker, base: str) -> Interpreter:
    """Asks the image. Raises EnvironmentBroken for one without Python or with another C library."""
    said = output_of(docker, base, ["-c", _QUESTION], ["python3"]).split()
    if len(said) != 4 or said[2] != "glibc":
        raise EnvironmentBroken(
            f"no wheels can be collected for image {base}: it says {' '.join(said)!r} of its Python",
            hint="a base needs python3 on the GNU C library",
        )
    return Interpreter(said[0], said[1], int(said[3].split(".")[1]))


def given_wheels(folder: Path) -> Path:
    """A folder that somebody filled. Raises InputError when pip itself is not in it."""
    if not any(folder.glob("pip-*.whl")):
        raise InputError(
            f"{folder} has no pip-*.whl: wheels are installed by a pip that is one of them",
            hint=f"where an index is: pip wheel --wheel-dir {folder} -r requirements.txt pip",
        )
    return folder


def collect(requirements: Path, interpreter: Interpreter, say: Say, *, fresh: bool = False) -> Path:
    """The folder of wheels for this list, kept in the user's cache. Raises EnvironmentBroken."""
    folder = cache_dir() / _key(requirements, interpreter)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if folder.is_dir():
        say(f"the wheels for {requirements} are here already")
        return folder
    say(f"collecting the wheels for {requirements}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="collecting-", dir=folder.parent) as beside:
        wheels = Path(beside) / "wheels"
        wheels.mkdir()
        _pip(_download(requirements, interpreter, wheels))
        for source in sorted(file for file in wheels.iterdir() if file.suffix != ".whl"):
            say(f"  making a wheel of {source.name}")
            _pip(["wheel", "--no-deps", "--wheel-dir", str(wheels), str(source)])
            source.unlink()
        if not folder.is_dir():  # another one may have been faster
            wheels.rename(folder)
    return folder


def cache_dir() -> Path:
    return Path.home() / ".cache" / "ledgerquake" / "wheels"


def _key(requirements: Path, interpreter: Interpreter) -> str:
    told = f"{interpreter}\n{requirements.read_text(encoding='utf-8')}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _download(requirements: Path, interpreter: Interpreter, into: Path) -> list[str]:
    platforms = [word for name in interpreter.platforms() for word in ("--platform", name)]
    return [
        *("download", "--no-deps", "--prefer-binary", "--implementation", "cp"),
        *("--python-version", interpreter.python, *platforms),
        *("--dest", str(into), "--requirement", str(requirements), "pip"),
    ]


def _pip(arguments: Sequence[str]) -> None:
    # A wheel that is made here has the same content each time: the builder knows it again.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentBroken(f"pip {arguments[0]} did not end within {LONGEST_S} s") from None
    if done.returncode != 0:
        said = "".join(f"\n    {line}" for line in done.stderr.strip().splitlines()[-6:])
        raise EnvironmentBroken(
            f"pip {arguments[0]} failed{said}",
            hint="--wheels DIR takes wheels that were collected where an index is",
        )
