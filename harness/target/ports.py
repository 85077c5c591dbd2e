"""Ports for a run on 127.0.0.1: a block of its own, kept while services come and go.

The block lies outside the range from which the kernel takes ports for outgoing connections, or one of
those could sit on a service's port while the service is down. The first port of a block is its guard:
bound, never listening, for as long as the run lasts. The kernel frees it however the run ends.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path

from harness.errors import EnvironmentBroken

BLOCK = 128
_LOWEST, _HIGHEST = 10_000, 65_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortBlock:
    """A block of ports that no other run has. Not for use by several threads at once."""

    def __init__(self, guard: socket.socket, ports: list[int]) -> None:
        self._guard = guard
        self._ports = ports

    @classmethod
    def reserve(cls, needed: int, name: str) -> PortBlock:
        """Find a block with at least ``needed`` free ports. ``name`` only spreads runs over the range."""
        if needed >= BLOCK:
            raise EnvironmentBroken(f"a run needs {needed} ports; at most {BLOCK - 1} can be had")
        bases = list(range(_LOWEST, _HIGHEST - BLOCK, BLOCK))
        random.Random(name).shuffle(bases)
        bases.sort(key=_ephemeral_overlap)
        for base in bases:
            guard = _guard(base)
            if guard is None:
                continue
            free = [port for port in range(base + 1, base + BLOCK) if _is_free(port)]
            if len(free) >= needed:
                return cls(guard, free)
            guard.close()
        raise EnvironmentBroken(
            f"no block of {needed} free ports between {_LOWEST} and {_HIGHEST} on 127.0.0.1"
        )

    def take(self) -> int:
        """A port of the block that was not taken before."""
        if not self._ports:
            raise EnvironmentBroken(f"the run needs more than its block of {BLOCK - 1} ports")
        return self._ports.pop(0)

    def release(self) -> None:
        self._guard.close()


def _guard(port: int) -> socket.socket | None:
    """A socket bound without SO_REUSEADDR: nobody else can have that port bound."""
    with ExitStack() as undo:
        guard = undo.enter_context(socket.socket())
        try:
            guard.bind(("127.0.0.1", port))
        except OSError:
            return None
        undo.pop_all()
        return guard


def _is_free(port: int) -> bool:
    """Whether nobody listens there. Connections that have just ended do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral_overlap(base: int) -> bool:
    low, high = (int(word) for word in _EPHEMERAL.read_text().split())
    return base + BLOCK > low and base <= high
