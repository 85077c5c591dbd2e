"""The scratch folder of a run: ``$TMPDIR/ledgerquake-<uid>/<run id>/``, and whose it is.

``owner.json`` names the harness and its supervisor by process id and start time, so that anybody can
tell whether the run is still alive. Standard library only (the supervisor process uses it).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import EnvironmentBroken, InputError
from harness.target import proctree

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RUN_VARIABLE = "LEDGERQUAKE_RUN"
SERVICE_VARIABLE = "LEDGERQUAKE_SERVICE"


def base_folder() -> Path:
    """Where this user's scratch folders are; it need not exist."""
    return Path(tempfile.gettempdir()) / f"ledgerquake-{os.getuid()}"


def scratch_folder(run_id: str) -> Path:
    """The scratch folder that belongs to a run id. Raises InputError for an id that is no plain name."""
    if not _RUN_ID.fullmatch(run_id):
        raise InputError(f"run id {run_id!r} is not a plain name", hint="letters, digits, '.', '_' and '-'")
    return base_folder() / run_id


@dataclass(frozen=True)
class Owner:
    """Who owns a scratch folder: process ids with their start times (ticks since boot)."""

    run_id: str
    boot_id: str
    harness_pid: int
    harness_start: int
    supervisor_pid: int
    supervisor_start: int

    def harness_lives(self) -> bool:
        return self._same_boot() and proctree.is_same(self.harness_pid, self.harness_start)

    def supervisor_lives(self) -> bool:
        return self._same_boot() and proctree.is_same(self.supervisor_pid, self.supervisor_start)

    def _same_boot(self) -> bool:
        return self.boot_id == proctree.boot_id()


def create_scratch(folder: Path, owner: Owner) -> None:
    """Make the folder (mode 0700, parents too) with ``owner.json``. An existing folder is an error."""
    for _ in range(5):
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        check_private(folder.parent)
        try:
            folder.mkdir(mode=0o700)
            break
        except FileNotFoundError:
            continue  # another run has just removed the empty parent
    draft = folder / ".owner.json"
    draft.write_text(json.dumps(vars(owner), indent=1))
    draft.rename(folder / "owner.json")


def check_private(folder: Path) -> None:
    """Raise EnvironmentBroken unless the folder is a real one, ours, and closed to others."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EnvironmentBroken(
            f"{folder} must be a folder of user {os.getuid()} with mode 0700",
            hint="remove it, or set TMPDIR to another place",
        )


def read_owner(folder: Path) -> Owner | None:
    """Who owns the folder; None when it never came so far as to say."""
    try:
        return Owner(**json.loads((folder / "owner.json").read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as problem:
        raise EnvironmentBroken(f"{folder / 'owner.json'} cannot be read: {problem}") from problem


def remove_scratch(folder: Path, patience_s: float = 2.0) -> None:
    """Remove the folder and the parent if that is empty. Raises OSError when it cannot be removed."""
    deadline = time.monotonic() + patience_s
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # a process that is just being killed may still have written
    with suppress(OSError):  # other runs are in it
        folder.parent.rmdir()
