"""Whose a container, network or volume is: the labels that everything made by a run carries.

Before anything is deleted its label is compared again: a filter that an engine ignores once deleted 977
images of somebody else, in another tool.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import EnvironmentBroken
from harness.target import proctree
from harness.target.scratch import Owner, read_owner

RUN = "org.ledgerquake.run"
OWNER = "org.ledgerquake.owner"
SERVICE = "org.ledgerquake.service"

_MACHINE_ID = Path("/etc/machine-id")


def full_name(run_id: str, part: str) -> str:
    """What a run calls its container, network or volume of that short name."""
    return f"lq-{run_id}-{part}"


@dataclass(frozen=True)
class Claim:
    """Which run, whose, on which machine, in which view of processes. ``owner``: see ``scratch.Owner``."""

    user: int
    machine: str
    pid_namespace: int
    owner: Owner

    @classmethod
    def of_run(cls, scratch: Path) -> Claim:
        """The claim of the living run with this scratch folder."""
        owner = read_owner(scratch)
        if owner is None:
            raise EnvironmentBroken(f"{scratch} says nothing about its owner")
        return cls(os.getuid(), _machine(), _pid_namespace(), owner)

    @classmethod
    def read(cls, labels: Mapping[str, str]) -> Claim | None:
        """What an object's labels say; None where they say nothing that can be read."""
        try:
            written: dict[str, Any] = json.loads(labels[OWNER])
            owner = Owner(**dict(written["owner"]))
            return cls(int(written["user"]), str(written["machine"]), int(written["pid_namespace"]), owner)
        except (LookupError, ValueError, TypeError):
            return None

    def labels(self) -> dict[str, str]:
        return {RUN: self.owner.run_id, OWNER: json.dumps(asdict(self))}

    def is_dead(self) -> bool | None:
        """Whether that run is over; None where that cannot be seen: another user's, another machine's."""
        if self.user != os.getuid() or self.machine != _machine() or self.pid_namespace != _pid_namespace():
            return None
        return not (self.owner.harness_lives() or self.owner.supervisor_lives())


def _machine() -> str:
    """One boot of one machine, and the machine itself where it has an id that outlasts a boot."""
    try:
        return _MACHINE_ID.read_text().strip() or proctree.boot_id()
    except OSError:
        return proctree.boot_id()


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino
