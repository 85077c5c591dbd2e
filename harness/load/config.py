"""What the driver and its child process agree on: the configuration, file names, exit codes."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from harness.experiment.target import Frozen
from harness.plan import LoadPlan

# The child's exit codes beside 0. They follow sysexits.h, so that a log reader can look them up.
EXIT_LOCUSTFILE = 65  # the locustfile cannot be used, or one of its operations fails before sending
EXIT_NOT_CONNECTED = 69  # nobody listens at the host, or the word to go never came
EXIT_RECORDER = 74  # a row could not be written: history would have been lost
EXIT_ORPHANED = 75  # the parent process is gone

OP_DEADLINE_S = 4.0  # from an operation's start: no attempt goes beyond it


class ChildConfig(Frozen):
    """Everything the child is told. ``go_within_s``: how long it waits for the word to go."""

    plan: LoadPlan
    host_url: str
    entries: dict[str, str] = Field(default_factory=dict)  # name of another way in -> its URL
    locustfile: str
    python_path: tuple[str, ...] = ()
    folder: str
    max_users: int = 2000
    connect_within_s: float = 10.0
    go_within_s: float = 60.0


class Folder:
    """Where the two meet: the files of one load run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "load.json"
        self.armed = path / "armed"  # child -> driver: ready to start
        self.go = path / "go"  # driver -> child: T0 in epoch ns
        self.operations = path / "operations.msgpack"
        self.figures = path / "figures.jsonl"
        self.summary = path / "summary.json"
        self.log = path / "load.log"


def write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old text or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
