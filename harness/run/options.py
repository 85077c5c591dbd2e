"""What the command line asks of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from harness.experiment.target import Frozen


class RunOptions(Frozen):
    """``seed`` None: draw one and print it. ``overrides`` are ``--set`` texts."""

    runtime: Literal["auto", "process"] = "auto"
    toxiproxy: Literal["auto", "server", "builtin"] = "auto"
    seed: int | None = None
    reports: Path = Path("reports")
    overrides: tuple[str, ...] = ()
    mutant: str | None = None
    command: str = ""
