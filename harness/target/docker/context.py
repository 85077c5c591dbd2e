"""What is sent to the engine for a build: a few named files, and nothing else of the machine.

Owner, mode and time of the files are levelled: the same content is the same context on every machine, so
that the builder finds its own earlier steps again, and a strict umask makes no unreadable image.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from docker.utils import exclude_paths

IGNORE = ".dockerignore"
DOCKERFILE = "Dockerfile"


@dataclass(frozen=True)
class Context:
    """``files``: name within the context -> the file. ``dockerfile`` is one of the names."""

    files: Mapping[str, Path]
    dockerfile: str = DOCKERFILE

    def plus(self, files: Mapping[str, Path]) -> Context:
        return replace(self, files={**self.files, **files})

    def instructions(self) -> str:
        """The Dockerfile's text."""
        return self.files[self.dockerfile].read_text(encoding="utf-8")

    def digest(self) -> str:
        """Tells whether anything in it has changed: names, content, which may be run."""
        sums = hashlib.sha256()
        for name, file in sorted(self.files.items()):
            content = file.readlink().as_posix().encode() if file.is_symlink() else file.read_bytes()
            sums.update(f"{name}\0{_mode(file):o}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return sums.hexdigest()

    def tar(self, packed: IO[bytes]) -> None:
        """Write the context as the engine takes it, and go back to the beginning."""
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, file in sorted(self.files.items()):
                info = tar.gettarinfo(str(file), arcname=name)
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                info.mode = _mode(file)
                if info.isreg():
                    with file.open("rb") as content:
                        tar.addfile(info, content)
                else:
                    tar.addfile(info)
        packed.seek(0)


def folder_context(folder: Path, dockerfile: str = DOCKERFILE) -> Context:
    """A folder as its ``.dockerignore`` cuts it."""
    ignore = folder / IGNORE
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    names = exclude_paths(str(folder), patterns, dockerfile=dockerfile)
    files = {Path(name).as_posix(): folder / name for name in names}
    kept = {name: file for name, file in files.items() if file.is_symlink() or file.is_file()}
    return Context({**kept, dockerfile: folder / dockerfile}, dockerfile)


def _mode(file: Path) -> int:
    return 0o755 if file.is_symlink() or file.stat().st_mode & 0o111 else 0o644
