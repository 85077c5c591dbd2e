"""What this machine's kernel says of a container: its connections, its control groups, its interfaces.

The engine's own word ("paused") is what was asked for; this is what is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.target.runtime import Address, Limits, Usage

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
_WANTED = {"01", "02"}  # established, being opened


def alive(pid: int) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_address(pid: int, address: str) -> bool:
    """Whether that process stands in a network namespace with this address of its own."""
    try:
        return f"-- {address}\n" in (PROC / str(pid) / "net" / "fib_trie").read_text()
    except OSError:
        return False


def interfaces(pid: int) -> tuple[str, ...]:
    """Network interfaces with a route of their own, loopback aside; none when the process is gone.

    Some kernels put tunnel devices into every namespace: they lead nowhere.
    """
    lines = _read(PROC / str(pid) / "net" / "route").splitlines()[1:]
    return tuple(sorted({line.split()[0] for line in lines} - {"lo"}))


def remote_ends(pid: int) -> frozenset[Address]:
    """Remote ends of the TCP connections in the network namespace of a process."""
    ends: set[Address] = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / str(pid) / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        ends.update(_remote(words[2]) for words in map(str.split, lines) if words[3] in _WANTED)
    return frozenset(ends)


def _remote(text: str) -> Address:
    """``0100007F:1F90``: 32-bit words in the byte order of the machine. IPv4 within IPv6 is IPv4."""
    host, port = text.split(":")
    words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    if len(packed) == 16 and packed.startswith(bytes(10) + b"\xff\xff"):
        packed = packed[12:]
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return Address(socket.inet_ntop(family, packed), int(port, 16))


def frozen(pid: int) -> bool:
    """Whether the control group of a process is frozen, with all in it."""
    old = _group(pid, "freezer")
    if old is not None:
        return _read(old / "freezer.state") == "FROZEN"
    new = _group(pid, "")
    return new is not None and _table(new / "cgroup.events").get("frozen") == 1


def usage(pid: int) -> Usage | None:
    """The counters of its control groups, of either version; None when it is gone."""
    unified = _group(pid, "")
    if unified is not None and (unified / "cpu.stat").exists():
        cpu = _table(unified / "cpu.stat")
        return Usage(
            cpu_ns=cpu.get("usage_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled=cpu.get("nr_throttled", 0),
            memory_bytes=_number(unified / "memory.current"),
            memory_refused=_table(unified / "memory.events").get("max", 0),
            oom_kills=_table(unified / "memory.events").get("oom_kill", 0),
        )
    cpu_group, memory_group = _group(pid, "cpu"), _group(pid, "memory")
    account = _group(pid, "cpuacct")
    if cpu_group is None or memory_group is None or account is None:
        return None
    cpu = _table(cpu_group / "cpu.stat")
    return Usage(
        cpu_ns=_number(account / "cpuacct.usage"),
        periods=cpu.get("nr_periods", 0),
        throttled=cpu.get("nr_throttled", 0),
        memory_bytes=_number(memory_group / "memory.usage_in_bytes"),
        memory_refused=_number(memory_group / "memory.failcnt"),
        oom_kills=_table(memory_group / "memory.oom_control").get("oom_kill", 0),
    )


def limits(pid: int) -> Limits | None:
    """What its control groups may use; None when they cannot be seen: it is gone, or stands elsewhere."""
    unified = _group(pid, "")
    if unified is not None and (unified / "cpu.max").exists():
        words = _read(unified / "cpu.max").split()
        quota, period = (words[0], int(words[1])) if len(words) == 2 else ("", 0)
        memory = _read(unified / "memory.max")
    else:
        cpu_group, memory_group = _group(pid, "cpu"), _group(pid, "memory")
        if cpu_group is None or memory_group is None:
            return None
        quota, period = _read(cpu_group / "cpu.cfs_quota_us"), _number(cpu_group / "cpu.cfs_period_us")
        memory = _read(memory_group / "memory.limit_in_bytes")
    if not period or not quota or not memory:
        return None
    cpus = int(quota) / period if quota.isdigit() else None  # "max" and -1: all there are
    return Limits(cpus, _real_limit(int(memory)) if memory.isdigit() else None)


def _real_limit(limit_bytes: int) -> int | None:
    """Without a limit the kernel tells the largest number of pages there is."""
    return limit_bytes if 0 < limit_bytes < 1 << 60 else None


def _group(pid: int, controller: str) -> Path | None:
    """The folder of a process's control group; ``""`` is the unified hierarchy."""
    for numbers, names, path in _memberships(pid):
        if controller in names.split(",") and (controller or numbers == "0"):
            roots = (CGROUP / names, CGROUP / controller)  # a link, where several share one hierarchy
            folders = (root / path.lstrip("/") for root in roots)
            return next((folder for folder in folders if folder.exists()), None)
    return None


def _memberships(pid: int) -> Iterator[tuple[str, str, str]]:
    for line in _read(PROC / str(pid) / "cgroup").splitlines():
        number, names, path = line.split(":", 2)
        yield number, names, path


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    text = _read(file)
    return int(text) if text.lstrip("-").isdigit() else 0


def _table(file: Path) -> dict[str, int]:
    """Lines of ``name number``."""
    pairs = (line.split() for line in _read(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
