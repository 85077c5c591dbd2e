"""Processes by descent and start time, never by name: what may be signalled and what may not.

Standard library only: the supervisor process, which must start fast and depend on nothing, uses it.
Start times are clock ticks since boot, as in ``/proc/<pid>/stat``.
"""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Process:
    """One process as seen at one instant. ``state`` is the letter of ``/proc`` (R, S, D, T, Z ...)."""

    pid: int
    parent: int
    start_ticks: int
    state: str


def look(pid: int) -> Process | None:
    """The process with that id now, zombies included; None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as source:
            text = source.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name may hold anything, so cut after it
    return Process(pid, int(fields[1]), int(fields[19]), fields[0].decode())


def everything() -> list[Process]:
    """All processes of this machine that can be seen."""
    seen = (look(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in seen if process is not None]


def descendants(root: int) -> list[Process]:
    """Everything below ``root`` that still runs (no zombies), parents before children."""
    children: dict[int, list[Process]] = {}
    for process in everything():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    level = children.get(root, [])
    while level:
        found += level
        level = [child for process in level for child in children.get(process.pid, [])]
    return [process for process in found if process.state not in "ZX"]


def is_same(pid: int, start_ticks: int) -> bool:
    """Whether that very process still runs: same id, same start, not a zombie."""
    now = look(pid)
    return now is not None and now.start_ticks == start_ticks and now.state not in "ZX"


def send(process: Process, number: int) -> bool:
    """Signal exactly this process: a reused id is left alone. False when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_same(process.pid, process.start_ticks):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def boot_id() -> str:
    """Differs after each start of the machine: start times are comparable within one boot only."""
    with open("/proc/sys/kernel/random/boot_id") as source:
        return source.read().strip()


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, however often they forked."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends; end now when it already has."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(137)


def set_name(name: str) -> None:
    """How ``ps`` shows this process (15 bytes)."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int | bytes) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
