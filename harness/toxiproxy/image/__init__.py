"""What goes into the images of the link engines: a name within the build's context -> the file here."""

from __future__ import annotations

from pathlib import Path

DOCKERFILE = "Dockerfile"
_HERE = Path(__file__).parent
_PACKAGE = _HERE.parents[1]


def server_files(server: Path) -> dict[str, Path]:
    """For the real server, from the program that this machine has."""
    return {DOCKERFILE: _HERE / "server.Dockerfile", "toxiproxy-server": server}


def builtin_files() -> dict[str, Path]:
    """For the engine that is built in: its own modules, and the packages' heads above them."""
    heads = [_PACKAGE / "__init__.py", _PACKAGE / "toxiproxy" / "__init__.py"]
    modules = sorted((_PACKAGE / "toxiproxy" / "builtin").glob("*.py"))
    named = {file.relative_to(_PACKAGE.parent).as_posix(): file for file in (*heads, *modules)}
    return {DOCKERFILE: _HERE / "builtin.Dockerfile", **named}
