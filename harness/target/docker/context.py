"""What is sent to the engine for a build: a few named files, and nothing else of the machine.

Owner, mode and time of the files are levelled: the same content is the same context on every machine, so
that the builder finds its own earlier steps again, and a strict umask makes no unreadable image.

What is not to be sent stands in ``.dockerignore``, as for `docker build`. What Python compiles is left out
even where that file does not say so: running a target writes it, and must not make its image a stale one.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from docker.utils import exclude_paths

from harness.errors import EnvironmentBroken

IGNORE = ".dockerignore"
DOCKERFILE = "Dockerfile"
COMPILED = ("**/__pycache__", "**/*.pyc")


@dataclass(frozen=True)
class Context:
    """``files``: name within the context -> the file, or a folder with nothing in it. ``dockerfile`` is one
    of the names. What cannot be read is EnvironmentBroken in all of its methods."""

    files: Mapping[str, Path]
    dockerfile: str = DOCKERFILE

    def plus(self, files: Mapping[str, Path]) -> Context:
        return replace(self, files={**self.files, **files})

    def instructions(self) -> str:
        """The Dockerfile's text."""
        return _text(self.files[self.dockerfile])

    def digest(self, arguments: Mapping[str, str] | None = None) -> str:
        """Tells whether an image would be another one now: names, content, which may be run, which of
        them is the Dockerfile, and the build's ``arguments``."""
        sums = hashlib.sha256(json.dumps([self.dockerfile, sorted((arguments or {}).items())]).encode())
        for name, file in sorted(self.files.items()):
            with _reading(file):
                content = hashlib.sha256(_content(file)).hexdigest()
                sums.update(f"{name}\0{_mode(file):o}\0{content}\n".encode())
        return sums.hexdigest()

    def tar(self, packed: IO[bytes]) -> None:
        """Write the context as the engine takes it, and go back to the beginning."""
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, file in sorted(self.files.items()):
                with _reading(file):
                    _add(tar, name, file)
        packed.seek(0)


def folder_context(folder: Path, dockerfile: str = DOCKERFILE) -> Context:
    """A folder as its ``.dockerignore`` cuts it, without what Python compiled. Raises EnvironmentBroken."""
    ignore = folder / IGNORE
    lines = _text(ignore).splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    with _reading(folder):
        names = exclude_paths(str(folder), [*patterns, *COMPILED], dockerfile=dockerfile)
        found = {Path(name).as_posix(): folder / name for name in names}
        files = {name: file for name, file in found.items() if file.is_symlink() or file.is_file()}
        filled = {parent.as_posix() for name in files for parent in Path(name).parents}
        empty = {name: path for name, path in found.items() if path.is_dir() and name not in filled}
    return Context({**empty, **files, dockerfile: folder / dockerfile}, dockerfile)


def _text(file: Path) -> str:
    with _reading(file):
        return file.read_text(encoding="utf-8")


def _content(file: Path) -> bytes:
    if file.is_symlink():
        return file.readlink().as_posix().encode()
    return b"" if file.is_dir() else file.read_bytes()


def _add(tar: tarfile.TarFile, name: str, file: Path) -> None:
    info = tar.gettarinfo(str(file), arcname=name)
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    info.mode = _mode(file)
    if info.isreg():
        with file.open("rb") as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


def _mode(file: Path) -> int:
    return 0o755 if file.is_symlink() or file.stat().st_mode & 0o111 else 0o644


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What cannot be read, or not as text, becomes EnvironmentBroken with its name."""
    try:
        yield
    except OSError as problem:
        raise EnvironmentBroken(
            f"cannot send {problem.filename or path} to a build: {problem.strerror or problem}",
            hint=f"where the image does not need it, {IGNORE} leaves it out",
        ) from problem
    except UnicodeDecodeError as problem:
        raise EnvironmentBroken(f"{path} is no text in UTF-8: {problem}") from problem
