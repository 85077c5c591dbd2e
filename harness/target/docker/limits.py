"""The limits that services have, and which ends they brought: whoever sets a limit invites that end."""

from __future__ import annotations

import signal
import time

from harness.experiment.target import TargetSpec
from harness.target.docker.lives import Incarnation
from harness.target.lives import Life
from harness.target.runtime import Limits

SETTING_NS = 500_000_000  # a limit holds a little before the engine says that it does
_UNLIMITED = 1 << 60  # bytes


class LimitsSet:
    """By service: its limits now, and the spans of time in which its memory was narrower than the target's
    own file has it."""

    def __init__(self, spec: TargetSpec) -> None:
        self._own = {name: Limits(one.cpus, one.memory_bytes) for name, one in spec.services.items()}
        self._now = dict(self._own)
        self._narrowed: dict[str, list[tuple[int, int | None]]] = {}  # since, until; epoch ns

    def of(self, service: str) -> Limits:
        return self._now[service]

    def note(self, service: str, limits: Limits) -> None:
        """They hold from now on."""
        self._now[service] = limits
        now = time.time_ns()
        spans = self._narrowed.setdefault(service, [])
        if spans and spans[-1][1] is None:
            spans[-1] = (spans[-1][0], now)
        own = self._own[service].memory_bytes or _UNLIMITED
        if limits.memory_bytes is not None and limits.memory_bytes < own:
            spans.append((now - SETTING_NS, None))

    def ended(self, service: str, life: Life[Incarnation]) -> bool:
        """Whether the kernel killed it for want of memory while that was narrower.

        By instants: the engine may tell of an end only when the limit has been lifted again.
        """
        ended_ns = life.child.ended_ns if life.over and life.child.out_of_memory else None
        if ended_ns is None or life.child.poll() != -signal.SIGKILL:
            return False
        spans = self._narrowed.get(service, ())
        return any(since_ns <= ended_ns <= (until_ns or ended_ns) for since_ns, until_ns in spans)

    def invite(self, service: str, life: Life[Incarnation]) -> None:
        """An end of that kind counts as asked for, as if by ``kill``."""
        if life.invited_ns is None and self.ended(service, life):
            life.invited_ns = life.child.ended_ns
