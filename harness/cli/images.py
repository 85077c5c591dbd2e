"""``images``: making and listing the images of the Docker runtime."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import click

from harness.errors import EnvironmentBroken, InputError
from harness.experiment.names import suggestion

if TYPE_CHECKING:
    from harness.experiment.target import Build, TargetSpec
    from harness.target.docker.building import Image
    from harness.target.docker.endpoint import Docker

ANSWER_S = 300  # an import answers when all of it has been unpacked
SUITE = "bookworm"
REQUIREMENTS = "requirements.txt"

host_option = click.option("--docker-host", metavar="URL", help="Another engine than the local one.")


@click.group()
def images() -> None:
    """Build or list the images of the Docker runtime."""


@images.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--offline", is_flag=True, help="Without an image registry: debootstrap, and wheels.")
@click.option("--base", metavar="IMAGE", help="Build on this image instead.")
@click.option("--suite", metavar="NAME", help=f"Debian release of the offline base.  [default: {SUITE}]")
@click.option("--mirror", metavar="URL", help="Debian mirror; the one of this machine's apt otherwise.")
@click.option(
    "--wheels",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Wheels to install from, where no package index is in reach.",
)
@click.option("--fresh", is_flag=True, help="Make everything anew.")
@host_option
def build(
    targets: tuple[str, ...],
    offline: bool,
    base: str | None,
    suite: str | None,
    mirror: str | None,
    wheels: Path | None,
    fresh: bool,
    docker_host: str | None,
) -> None:
    """Build the images of targets (all in the nearest targets/) and of the link engines."""
    if (suite or mirror) and (not offline or base):
        raise click.UsageError("--suite and --mirror are for the base that --offline makes")
    from harness.target.docker.base_image import make_base
    from harness.target.docker.endpoint import connect
    from harness.target.docker.wheels import given_wheels

    specs = _targets(targets)
    given = given_wheels(wheels) if wheels else None
    docker = connect(docker_host, ANSWER_S)
    _say(str(docker))
    with _ending_orderly():
        if offline and base is None:
            base = make_base(docker, suite or SUITE, _say, mirror=mirror, fresh=fresh).ref
        work = _Work(docker, base, given, offline, fresh)
        work.engines()
        for spec in specs:
            work.target(spec)


@images.command("list")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@host_option
def list_images(targets: tuple[str, ...], docker_host: str | None) -> int:
    """What a run of these targets would use, and whether it is here."""
    from harness.cli.catalogue import show
    from harness.target.docker import images as room
    from harness.target.docker.endpoint import connect

    specs = _targets(targets)
    docker = connect(docker_host)
    rows = [
        (ref, *_state(room.look(docker, ref), recipe))
        for spec in specs
        for ref, recipe in room.wanted(spec).items()
    ]
    try:
        engine = room.find_engine_image(docker)
        rows.append((engine.ref, "present", f"link engine: {engine.label}"))
    except room.Stale as stale:
        rows.append((stale.ref, "stale", f"link engine: {room.BUILD_HINT}"))
    except EnvironmentBroken as absent:
        rows.append(("link engine", "absent", str(absent.hint or absent)))
    return show(("image", "state", "what"), rows, "no targets/ here or above")


class _Work:
    """One ``images build``: where bases, wheels and programs come from."""

    def __init__(
        self, docker: Docker, base: str | None, wheels: Path | None, offline: bool, fresh: bool
    ) -> None:
        self._docker = docker
        self._base = base
        self._given = wheels
        self._offline = offline
        self._fresh = fresh

    def engines(self) -> None:
        """The real server's image, where this machine has the program, and always the built-in one's."""
        from harness.target.docker.images import BUILTIN, SERVER
        from harness.toxiproxy.builtin import VERSION
        from harness.toxiproxy.find import find_engine
        from harness.toxiproxy.image import builtin_files, server_files

        self._engine(f"{BUILTIN}:{VERSION}", builtin_files(), ["--help"], "--port")
        try:
            server = find_engine("server")
        except EnvironmentBroken as none:
            _say(f"no image of a Toxiproxy server: {none.message}; the built-in engine does the job")
            return
        ref = f"{SERVER}:{server.version}"
        self._engine(ref, server_files(Path(server.argv[0])), ["-version"], "version")

    def _engine(self, ref: str, files: dict[str, Path], question: Sequence[str], answer: str) -> None:
        """Built, and asked whether it runs at all: a program may need a newer C library than the base's."""
        from harness.target.docker.building import BASE, BASE_ARGUMENT, FILES, build_image
        from harness.target.docker.context import Context
        from harness.target.docker.once import output_of

        context = Context(files)
        arguments = {BASE_ARGUMENT: self._base} if self._base else {}
        labels = {FILES: context.digest(), BASE: self._base or ""}
        with _timed(ref) as done:
            image = build_image(self._docker, ref, context, _say, arguments, labels, fresh=self._fresh)
            done(image)
        said = output_of(self._docker, ref, question)
        if answer not in said:
            self._docker.api.remove_image(ref)
            raise EnvironmentBroken(
                f"{ref} does not run on {self._base or 'its base'}: {said[-300:]}",
                hint="--base names another base; a statically linked program runs on any",
            )

    def target(self, spec: TargetSpec) -> None:
        """Every image of it that says how it is built."""
        from harness.target.docker.building import build_target
        from harness.target.docker.images import wanted

        for ref, recipe in wanted(spec).items():
            if recipe is None:
                _say(f"{ref} has no `build` in {spec.name}: it will be pulled")
                continue
            with _timed(ref) as done:
                wheels = self._wheels(recipe)
                done(
                    build_target(
                        *(self._docker, ref, recipe, _say), base=self._base, wheels=wheels, fresh=self._fresh
                    )
                )

    def _wheels(self, recipe: Build) -> Path | None:
        from harness.target.docker.wheels import collect, interpreter_of

        requirements = Path(recipe.context) / REQUIREMENTS
        if self._given or not self._offline or not self._base or not requirements.is_file():
            return self._given
        return collect(requirements, interpreter_of(self._docker, self._base), _say, fresh=self._fresh)


def _targets(names: Sequence[str]) -> list[TargetSpec]:
    """The targets by name or folder; all that are near when none is named."""
    from harness.cli.files import target_folders
    from harness.target.folder import load_target

    near = {folder.name: folder for folder in target_folders(Path.cwd())}
    for name in names:
        if name not in near and not (Path(name) / "compose.yaml").is_file():
            raise InputError(f"no target is called {name!r}", hint=suggestion(name, near))
    folders = [near.get(name, Path(name)) for name in names] or list(near.values())
    return [load_target(folder) for folder in folders]


def _state(image: Image | None, recipe: Build | None) -> tuple[str, str]:
    from harness.target.docker.images import is_from_elsewhere, is_stale

    built = f"built from {recipe.context}" if recipe else "pulled"
    if image is None:
        return "absent", built
    if recipe is None:
        return "present", built
    if is_from_elsewhere(image):
        return "present", f"built elsewhere; {recipe.context} may have changed since"
    return ("stale" if is_stale(image, recipe) else "present"), built


@contextmanager
def _timed(ref: str) -> Iterator[Callable[[Image], None]]:
    started = monotonic()
    _say(f"building {ref}")
    yield lambda image: _say(f"{ref} is {image.id[7:19]}, after {monotonic() - started:.1f} s")


@contextmanager
def _ending_orderly() -> Iterator[None]:
    """A polite signal is taken like Ctrl-C: temporary folders are removed."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> None:
    click.echo(line, err=True)


COMMANDS = {"images": images}
