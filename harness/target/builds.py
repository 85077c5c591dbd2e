"""Which image each service of a target has, and how it is made: ``build`` and ``image`` of its file.

One service may say how an image is built that others use too, as with plain Compose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.experiment.problems import Problems
from harness.experiment.target import Build
from harness.experiment.yaml_reader import KeyPath
from harness.target.compose import WrittenService


def image_of(target: str, service: str, written: WrittenService) -> str | None:
    """The image's reference; one that is built and has none is named as Compose names it."""
    if written.image is None and written.build is not None:
        return f"{target}-{service}"
    return written.image


def builds_of(
    services: Mapping[str, WrittenService],
    target: str,
    folder: Path,
    data: Mapping[str, Any],
    problems: Problems,
) -> dict[str, Build]:
    """How each image is built, by its reference. ``data``: the services as the file has them, for places."""
    builds: dict[str, Build] = {}
    for name, written in services.items():
        image = image_of(target, name, written)
        if written.build is None or image is None:
            continue
        context = (folder / written.build.context).resolve()
        build = Build(context=str(context), dockerfile=written.build.dockerfile, args=written.build.args)
        if not context.is_dir():
            problems.add(f"no folder {written.build.context!r} in {folder}", _place(name, data, "context"))
        elif not (context / build.dockerfile).resolve().is_relative_to(context):
            problems.add(
                f"{build.dockerfile!r} lies outside {context}, and only that folder is sent to a build",
                _place(name, data, "dockerfile"),
                hint="a `context` that holds both",
            )
        elif not (context / build.dockerfile).is_file():
            problems.add(f"no file {build.dockerfile!r} in {context}", _place(name, data, "dockerfile"))
        if builds.setdefault(image, build) != build:
            problems.add(
                f"{image} is built in another way by a service above",
                _place(name, data),
                hint="give it another image",
            )
    return builds


def _place(service: str, data: Mapping[str, Any], part: str = "") -> KeyPath:
    """Where a part of a service's ``build`` stands; the whole of it where the part is not written."""
    at: KeyPath = ("services", service, "build")
    written = data[service]["build"]
    return (*at, part) if isinstance(written, Mapping) and part in written else at
