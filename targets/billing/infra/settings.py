"""What the nodes share: reading the environment, finding server programs, becoming a server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def needed(name: str) -> str:
    """A required environment variable; ends with a message when it is missing."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"environment variable {name} is missing")
    return value


def host_port(name: str) -> tuple[str, int]:
    """The ``host:port`` in a required environment variable."""
    host, _, port = needed(name).rpartition(":")
    if not host or not port.isdigit():
        sys.exit(f"environment variable {name} must be host:port, not {os.environ[name]!r}")
    return host, int(port)


def data_dir() -> Path:
    """``DATA_DIR``, made when missing."""
    folder = Path(needed("DATA_DIR"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def package_folder(package: str) -> Path | None:
    """Where an installed package lies; None when it is not installed. Does not import it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def program(name: str) -> str:
    """The path of a program on PATH; ends with a message when there is none."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"no {name!r} on PATH; install the project's 'stack' extra")
    return path


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process by the server."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(argv[0], list(argv))
