"""Images that a run needs: the target's own and the link engine's. Absent, stale and present are states.

Nothing is looked for at a registry before the machine itself has been looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from docker.errors import APIError
from docker.utils import parse_repository_tag

from harness.errors import EnvironmentBroken
from harness.experiment.target import Build, TargetSpec
from harness.target.docker.building import BASE, FILES, Image, Say, build_target, look, what_helps
from harness.target.docker.context import Context, folder_context
from harness.target.docker.endpoint import Docker, asking
from harness.target.docker.once import output_of
from harness.target.docker.progress import events
from harness.toxiproxy.image import builtin_files

__all__ = [
    "EngineImage",
    "Image",
    "Stale",
    "find_engine_image",
    "is_from_elsewhere",
    "is_stale",
    "look",
    "obtain",
    "obtain_all",
    "wanted",
]

ENGINE_VARIABLE = "LEDGERQUAKE_TOXIPROXY_IMAGE"
SERVER = "ledgerquake/toxiproxy"
BUILTIN = "ledgerquake/toxiproxy-builtin"
PULL_QUIET_S = 60.0
PULL_S = 900.0
BUILD_HINT = "ledgerquake images build (without an image registry: ledgerquake images build --offline)"

Preference = Literal["auto", "server", "builtin"]


class Stale(EnvironmentBroken):
    """An image that was built from other files than those there now. ``ref``: its name."""

    def __init__(self, ref: str, files: str) -> None:
        super().__init__(f"image {ref} was built from other files than {files} has now", hint=BUILD_HINT)
        self.ref = ref


def is_stale(image: Image, build: Build) -> bool:
    """Whether the folder or the recipe has changed since. One that was not built by the harness (plain
    Compose) does not tell, and is taken as it is."""
    known = image.labels.get(FILES)
    context = folder_context(Path(build.context), build.dockerfile)
    return known is not None and known != context.digest(build.args)


def is_from_elsewhere(image: Image) -> bool:
    """Built by something else (plain Compose): of which files, nobody knows."""
    return FILES not in image.labels


def obtain(docker: Docker, ref: str, build: Build | None, say: Say, may_build: bool = True) -> Image:
    """The image: as it is here, else built where the target says how, else pulled. Without ``may_build``
    neither is done, for both may take minutes: only what is here is good.

    One that was built from other files than those there now is no good: a verdict about code that nobody
    has in front of them misleads. Raises EnvironmentBroken when it cannot be had.
    """
    image = look(docker, ref)
    stale = image is not None and build is not None and is_stale(image, build)
    if image is not None and not stale:
        if build is not None and is_from_elsewhere(image):
            say(f"{ref} was built elsewhere: nobody knows whether {build.context} has changed since")
        return image
    offline = image is not None and image.labels.get(BASE)  # registry and index may be out of reach
    if build is not None and may_build and not offline:
        say(f"building {ref} from {build.context}")
        return build_target(docker, ref, build, say)
    if build is not None and stale:
        raise Stale(ref, build.context)
    if build is not None or not may_build:
        hint = BUILD_HINT if build is not None else f"docker pull {ref}"
        raise EnvironmentBroken(f"image {ref} is not here", hint=hint)
    return pull(docker, ref, say)


def obtain_all(docker: Docker, spec: TargetSpec, say: Say, may_build: bool = True) -> dict[str, Image]:
    """The image of every service, by service; each image is seen to once, as ``obtain`` does it."""
    without = sorted(service.name for service in spec.services.values() if service.image is None)
    if without:
        raise EnvironmentBroken(
            f"no image is named for {', '.join(without)}", hint=f"`image` or `build` in {spec.folder}"
        )
    builds = wanted(spec)
    images = {ref: obtain(docker, ref, build, say, may_build) for ref, build in builds.items()}
    return {service.name: images[service.image] for service in spec.services.values() if service.image}


def wanted(spec: TargetSpec) -> dict[str, Build | None]:
    """How each image of a target is built, by its reference; None: it is not."""
    return {service.image: service.build for service in spec.services.values() if service.image}


def pull(docker: Docker, ref: str, say: Say) -> Image:
    """Fetch it from its registry, in bounded time. Raises EnvironmentBroken."""
    what = f"pull image {ref}"
    repository, tag = parse_repository_tag(ref)
    say(f"pulling {ref}")
    give_up = monotonic() + PULL_S
    with asking(what):
        try:
            for event in events(
                lambda: docker.api.pull(repository, tag or "latest", stream=True, decode=True),
                what,
                PULL_QUIET_S,
            ):
                if error := event.get("error"):
                    raise _cannot_pull(ref, str(error))
                if monotonic() > give_up:
                    raise _cannot_pull(ref, f"not here after {PULL_S:.0f} s")
        except APIError as refusal:
            raise _cannot_pull(ref, str(refusal.explanation or refusal)) from refusal
    image = look(docker, ref)
    if image is None:
        raise _cannot_pull(ref, "the engine says it is done and does not have it")
    return image


def _cannot_pull(ref: str, why: str) -> EnvironmentBroken:
    return EnvironmentBroken(f"cannot pull image {ref}: {why.strip()}", hint=what_helps(why) or BUILD_HINT)


@dataclass(frozen=True)
class EngineImage:
    """A link engine as an image. ``arguments`` come before host and port, which its kind writes as
    ``-host``/``-port`` (server) or ``--host``/``--port`` (builtin)."""

    ref: str
    kind: Literal["server", "builtin"]
    version: str
    arguments: tuple[str, ...]

    @property
    def label(self) -> str:
        """For reports: ``server 2.12.0`` or ``builtin``."""
        return "builtin" if self.kind == "builtin" else f"server {self.version}"


def find_engine_image(
    docker: Docker, preference: Preference = "auto", say: Say = lambda line: None, may_pull: bool = True
) -> EngineImage:
    """The engine to use: the image that is named in the environment, the real server's, the built-in one's.

    Raises EnvironmentBroken when there is none, Stale for a built-in one of another version of the harness.
    """
    if preference != "builtin":
        if named := os.environ.get(ENGINE_VARIABLE):
            image = look(docker, named) or _fetch_named(docker, named, say, may_pull)
            return EngineImage(named, "server", _server_version(docker, image), ("-proxy-metrics",))
        if found := _newest(docker, SERVER):
            return EngineImage(found, "server", _tag(found), ("-proxy-metrics",))
    if preference != "server" and (found := _newest(docker, BUILTIN)):
        built = look(docker, found)
        if built is None or built.labels.get(FILES) != Context(builtin_files()).digest():
            raise Stale(found, "the harness")
        return EngineImage(found, "builtin", _tag(found), ())
    wanted = {"auto": "of a Toxiproxy engine", "server": "of a Toxiproxy server"}
    raise EnvironmentBroken(
        f"no image {wanted.get(preference, 'of the built-in Toxiproxy engine')} on this Docker engine",
        hint=f"{BUILD_HINT}, or name one in {ENGINE_VARIABLE}",
    )


def _fetch_named(docker: Docker, ref: str, say: Say, may_pull: bool) -> Image:
    if may_pull:
        return pull(docker, ref, say)
    raise EnvironmentBroken(f"image {ref}, named in {ENGINE_VARIABLE}, is not here", hint="pull it")


def _server_version(docker: Docker, image: Image) -> str:
    """What it calls itself; a build without a release calls itself "git", its tag may know better."""
    said = output_of(docker, image.ref, ["-version"])
    match = re.search(r"\bv?(\d+\.\d+[\w.+-]*)\s*$", said)
    return match[1] if match else _tag(image.ref)


def _newest(docker: Docker, repository: str) -> str | None:
    with asking(f"list the images of {repository}"):
        found = docker.api.images(name=repository)
    tags: Iterable[str] = (tag for image in found for tag in image.get("RepoTags") or ())
    return max((tag for tag in tags if tag.startswith(f"{repository}:")), key=_in_order, default=None)


def _in_order(ref: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", _tag(ref))]


def _tag(ref: str) -> str:
    return parse_repository_tag(ref)[1] or "latest"
