"""Building images, through the Engine API: that is the classic builder, which every engine has.

No `docker` program is needed, and no BuildKit (whose protocol the SDK does not speak). The containers of
the steps are removed however a build ends; an engine stops a build that nobody listens to any more.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

from docker.errors import APIError

from harness.errors import EnvironmentBroken
from harness.experiment.target import Build
from harness.target.docker.context import Context, folder_context
from harness.target.docker.endpoint import Docker, asking, is_gone
from harness.target.docker.progress import Event, events

Say = Callable[[str], None]

FILES = "org.ledgerquake.files"  # label: the digest of what it was built from, ``Context.digest``
BASE = "org.ledgerquake.base"  # label: what stood in the place of the Dockerfile's own base; "": nothing
BASE_ARGUMENT = "BASE_IMAGE"
QUIET_S = 900.0  # pip may be silent for long over a slow line
LAST_LINES = 12
_STEP = re.compile(r"Step (\d+/\d+) : (.*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROXIES = ("http_proxy", "https_proxy")
_NO_PROXY = "no_proxy"
_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")


@dataclass(frozen=True)
class Image:
    """An image that the engine has. ``ref`` as it was asked for."""

    ref: str
    id: str
    labels: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    tags: tuple[str, ...] = field(default=(), compare=False, repr=False)  # all its names


def build_target(
    docker: Docker,
    ref: str,
    build: Build,
    say: Say,
    *,
    base: str | None = None,
    wheels: Path | None = None,
    fresh: bool = False,
) -> Image:
    """A target's image as its ``build`` says. Raises EnvironmentBroken with the failed step's last lines.

    ``base``: an image in the place of the Dockerfile's own base. ``wheels``: a folder of them, in the
    place of an index.
    """
    context = folder_context(Path(build.context), build.dockerfile)
    labels = {FILES: context.digest(build.args), BASE: base or ""}  # not that of an image below it
    index = wheels is None
    arguments = {**outside(context.instructions(), os.environ, say, index=index), **build.args}
    if base is not None:
        if not _declares(context.instructions(), BASE_ARGUMENT):
            raise EnvironmentBroken(
                f"cannot build {ref} on {base}: its {build.dockerfile} has a base of its own",
                hint=f"begin it with: ARG {BASE_ARGUMENT}=..., then FROM ${{{BASE_ARGUMENT}}}",
            )
        arguments[BASE_ARGUMENT] = labels[BASE] = base
    if wheels is not None:
        context = context.plus({f"wheels/{file.name}": file for file in sorted(wheels.glob("*.whl"))})
    return build_image(docker, ref, context, say, arguments, labels, fresh=fresh)


def build_image(
    docker: Docker,
    ref: str,
    context: Context,
    say: Say,
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    *,
    fresh: bool = False,
) -> Image:
    """Build ``context`` and call it ``ref``. Each step is told to ``say``. ``fresh``: nothing is taken
    from earlier builds."""
    what = f"build {ref}"
    before = look(docker, ref)
    last: deque[str] = deque(maxlen=LAST_LINES)
    step = "the beginning"
    with asking(what), TemporaryFile(prefix="ledgerquake-context-") as packed:
        context.tar(packed)
        options = {"buildargs": dict(arguments or {}), "labels": dict(labels or {}), "nocache": fresh}
        for event in events(lambda: _start(docker, ref, context, packed, options), what, QUIET_S):
            if error := event.get("error"):
                raise _failed(ref, step, str(error), last)
            for line in _COLOUR.sub("", str(event.get("stream", ""))).splitlines():
                if match := _STEP.match(line):
                    step = match[2]
                    last.clear()
                    say(f"  {match[1]} {_short(step)}")
                elif line.strip():
                    last.append(line.rstrip())
        image = inspect(docker, ref)
    if before is not None and before.id != image.id:
        _remove_superseded(docker, before.id)
    return image


def _remove_superseded(docker: Docker, image_id: str) -> None:
    """Without a name it would lie about for good. One that a container or another name holds is left."""
    with suppress(APIError):
        if not inspect(docker, image_id).tags:
            docker.api.remove_image(image_id)


def look(docker: Docker, ref: str) -> Image | None:
    """The image of that name, when the engine has it."""
    with asking(f"look for image {ref}"):
        try:
            return inspect(docker, ref)
        except APIError as refusal:
            if is_gone(refusal):
                return None
            raise


def inspect(docker: Docker, ref: str) -> Image:
    """The image as the engine has it. Raises APIError, NotFound among them."""
    found: dict[str, Any] = docker.api.inspect_image(ref)  # type: ignore[no-untyped-call]
    labels = (found.get("Config") or {}).get("Labels") or {}
    return Image(ref, str(found["Id"]), labels, tuple(found.get("RepoTags") or ()))


def _start(
    docker: Docker, ref: str, context: Context, packed: IO[bytes], options: Mapping[str, Any]
) -> Iterable[Event]:
    return docker.api.build(
        fileobj=packed,
        custom_context=True,
        dockerfile=context.dockerfile,
        tag=ref,
        rm=True,
        forcerm=True,
        decode=True,
        **options,
    )


def outside(
    instructions: str, environment: Mapping[str, str], say: Say, *, index: bool = True
) -> dict[str, str]:
    """What the steps of a build must know of this machine's way to the world, as build arguments.

    Proxies are known to every builder; what is on loopback is of no use within a container. Where pip
    looks is passed on to a Dockerfile that asks for it with ARG, unless it needs no ``index``: build
    arguments stay readable in the image.
    """
    found: dict[str, str] = {}
    for name in (*_PROXIES, _NO_PROXY):
        value = environment.get(name) or environment.get(name.upper()) or ""
        if value and (name == _NO_PROXY or not _on_loopback(value)):
            found[name] = found[name.upper()] = value
    for name in _PIP if index else ():
        if name in environment and _declares(instructions, name):
            values = [value for value in environment[name].split() if not _on_loopback(value)]
            if any("@" in value for value in values):
                say(f"{name} has a password: who has the image can read it (--wheels DIR needs no index)")
            if values:
                found[name] = " ".join(values)
    return found


def _on_loopback(url: str) -> bool:
    """Of a URL with or without a scheme; of one that cannot be read, nobody knows."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


def _declares(instructions: str, argument: str) -> bool:
    return re.search(rf"^\s*ARG\s+{argument}\b", instructions, re.MULTILINE | re.IGNORECASE) is not None


def _short(step: str) -> str:
    line = " ".join(step.split())
    return line if len(line) <= 90 else f"{line[:87]}..."


def _failed(ref: str, step: str, error: str, last: deque[str]) -> EnvironmentBroken:
    said = "".join(f"\n    {line}" for line in last)
    return EnvironmentBroken(
        f"cannot build {ref}: {_short(step)!r} failed: {error.strip()}{said}", hint=what_helps(error)
    )


def what_helps(error: str) -> str | None:
    """The way out of what an engine says when it cannot build or pull."""
    said = error.lower()
    if "no space left" in said:
        return "the engine's disk is full: `docker system df` shows what it holds"
    if "returned a non-zero code" in said:
        return None
    if any(word in said for word in ("registry", "pull access denied", "manifest", "lookup", "dial tcp")):
        return (
            "without an image registry: `ledgerquake images build --offline`, or --base with one that is here"
        )
    return None
