"""The healing journal: what undoes each fault is on disk before the fault is injected.

Append-only JSON lines, one ``intend`` and one ``healed`` per healing. A line is flushed to the disk
before the call returns, so that whoever comes after a dead run knows what was still open.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing


class Journal:
    """Opens (or continues) the journal at ``path``. May be used from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._intended, self._whole_bytes = _read(path)
        self._last = max((int(id[1:]) for id in self._intended), default=0)
        self._open = {id: healing for id, healing in self._intended.items() if healing is not None}
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, self._whole_bytes)  # a torn last line was never answered for

    def intend(self, healing: Healing) -> str:
        """Write down a healing before its fault; returns its id. Raises EnvironmentBroken."""
        with self._lock:
            self._last += 1
            id = f"h{self._last}"
            self._append({"event": "intend", "id": id, "healing": healing.model_dump()})
            self._open[id] = healing
        return id

    def healed(self, id: str) -> None:
        """It has been undone. Marking twice is harmless; an id never intended is a KeyError."""
        with self._lock:
            if int(id[1:]) > self._last:
                raise KeyError(id)
            if self._open.pop(id, None) is not None:
                self._append({"event": "healed", "id": id})

    def pending(self) -> list[Healing]:
        """What has not been undone, in the order in which it was intended (undo the last first)."""
        with self._lock:
            return list(self._open.values())

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps({"at_ns": time.time_ns(), **line}).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as problem:
            raise EnvironmentBroken(
                f"the healing journal {self._path} cannot be written: {problem}"
            ) from problem


def _read(path: Path) -> tuple[dict[str, Healing | None], int]:
    """Every id with its healing (None: undone), and how many bytes are whole lines."""
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    found: dict[str, Healing | None] = {}
    for number, line in enumerate(data[:whole].splitlines(), 1):
        try:
            entry = json.loads(line)
            found[entry["id"]] = Healing(**entry["healing"]) if entry["event"] == "intend" else None
        except (ValueError, LookupError, TypeError, ValidationError) as problem:
            raise EnvironmentBroken(
                f"{path}:{number}: not a line of a healing journal: {problem}"
            ) from problem
    return found, whole
