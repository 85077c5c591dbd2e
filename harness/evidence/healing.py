"""Healing is data: what undoes a fault, written down before the fault is injected.

The journal (``harness.run.journal``) keeps it on disk, so that any process can heal. It lives in this
low room because the faults that make it and the journal that keeps it may not import each other.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.experiment.target import Frozen

HealingAction = Literal[
    "enable_link",  # link
    "remove_toxic",  # link, toxic
    "start_service",  # service
    "resume_service",  # service
    "replace_service",  # service, process: the command it had before; takes effect at its next start
    "restore_environment",  # service, grace_s: the target's own; it is started anew where it has another
    "set_mode",  # mode
    "restore_sync",  # service: replication is whole again
    "plug_in",  # service
    "set_limits",  # service, cpus, memory_bytes: what it had before; 0: as much as there is
]


class Healing(Frozen):
    """One undoing step. ``args`` are plain values, named next to each action above."""

    action: HealingAction
    args: dict[str, str | int | float] = Field(default_factory=dict)
