"""A base image from the distribution's own packages, for machines that reach no image registry.

``debootstrap`` unpacks the smallest system and Python into a folder, and the folder becomes an image. It
mounts and forks as it likes, so it runs in namespaces of its own that end with it: nothing stays mounted
below a folder that is about to be removed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from harness.errors import EnvironmentBroken
from harness.target.docker.building import Image, Say, look, what_helps
from harness.target.docker.endpoint import Docker, asking

REPOSITORY = "ledgerquake/base"
LONGEST_S = 1800.0
APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
# What no service reads. Licences stay.
LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./usr/share/info/*",
    "./usr/share/doc/*/*.gz",
)
_DETAILS = ("Retrieving", "Validating", "Extracting", "Unpacking", "Configuring", "Checking", "Valid")


def make_base(
    docker: Docker, suite: str, say: Say, *, mirror: str | None = None, fresh: bool = False
) -> Image:
    """``ledgerquake/base:<suite>``, made when it is not here or ``fresh``. ``mirror``: a Debian mirror's
    URL; where none is given, the one that this machine's apt uses. Raises EnvironmentBroken."""
    ref = f"{REPOSITORY}:{suite}"
    if not fresh and (there := look(docker, ref)):
        say(f"{ref} is here already")
        return there
    _check_able(ref)
    mirror = mirror or apt_mirror(suite)
    say(f"making {ref} with debootstrap: takes about a minute")
    with TemporaryDirectory(prefix="ledgerquake-base-") as folder:
        _debootstrap(suite, Path(folder), mirror, say)
        say(f"importing {ref}")
        _import(docker, Path(folder), suite)
    image = look(docker, ref)
    if image is None:
        raise EnvironmentBroken(f"cannot make {ref}: the engine took it and does not have it")
    return image


def apt_mirror(suite: str) -> str | None:
    """Where this machine's apt takes that suite from; None where it knows nothing of it."""
    try:
        told = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.split() for line in told.stdout.splitlines())
    return next((pair[0] for pair in pairs if len(pair) == 2 and pair[1] == suite), None)


def _check_able(ref: str) -> None:
    other = "--base IMAGE takes any image that is here and has Python"
    if os.geteuid() != 0:
        raise EnvironmentBroken(f"cannot make {ref}: debootstrap needs root", hint=f"use sudo; or {other}")
    for program, package in (("debootstrap", "debootstrap"), (APART[0], "util-linux"), ("tar", "tar")):
        if shutil.which(program) is None:
            raise EnvironmentBroken(
                f"cannot make {ref}: no {program!r} on PATH", hint=f"apt-get install {package}; or {other}"
            )


def _debootstrap(suite: str, folder: Path, mirror: str | None, say: Say) -> None:
    command = [*APART, "debootstrap", "--variant=minbase", "--include=python3", suite, str(folder)]
    last: deque[str] = deque(maxlen=8)
    with _running([*command, *([mirror] if mirror else [])]) as (process, output):
        for line in output:
            last.append(line.rstrip())
            words = line.removeprefix("I: ").split()
            if words and words[0] not in _DETAILS:
                say(f"  {' '.join(words)}")
    if process.returncode != 0:
        said = "".join(f"\n    {line}" for line in last)
        raise EnvironmentBroken(
            f"debootstrap cannot make {suite!r} from {mirror or 'its own mirror'}: it ended with "
            f"{process.returncode}{said}",
            hint="--mirror URL names another mirror, --suite another release",
        )


def _import(docker: Docker, folder: Path, suite: str) -> None:
    """The folder as an image. What is not whole is not left there."""
    ref = f"{REPOSITORY}:{suite}"
    left_out = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    command = ["tar", "--create", "--numeric-owner", *left_out, "--directory", str(folder), "."]
    with (
        TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said) as tar,
        asking(f"import {ref}"),
    ):
        try:
            answer = docker.api.import_image(
                src=tar.stdout, stream_src=True, repository=REPOSITORY, tag=suite, changes=['CMD ["python3"]']
            )
            if refused := _refusal(answer):
                raise EnvironmentBroken(f"cannot import {ref}: {refused}", hint=what_helps(refused))
            if code := tar.wait():
                docker.api.remove_image(ref)
                said.seek(0)
                raise EnvironmentBroken(
                    f"cannot import {ref}: tar ended with {code}: {said.read()[-300:].strip()}"
                )
        finally:
            tar.kill()


def _refusal(answer: str) -> str | None:
    """What the engine says no with once it has begun to answer: one line of JSON among others."""
    events = (json.loads(line) for line in answer.splitlines() if line.startswith("{"))
    return next((str(event["error"]) for event in events if "error" in event), None)


@contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The process and what it prints. It is killed when it takes too long, or nobody waits any more."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        limit = threading.Timer(LONGEST_S, process.kill)
        limit.daemon = True
        limit.start()
        try:
            assert process.stdout is not None
            yield process, process.stdout
            process.wait()
        finally:
            limit.cancel()
            process.kill()
