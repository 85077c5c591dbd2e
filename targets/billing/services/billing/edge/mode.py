"""The operating mode: normal, maintenance or lockdown, with an epoch that only grows.

The newest row of ``edge.mode`` is the truth; edge reads it every second and goes on with what it knew
last while the database is away. An edge that has never known a mode refuses writes: it might rejoin in the
middle of a lockdown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from billing.common import Database, Metrics, Outbox, Problem, Session, is_infrastructure, refused

REFRESH_S = 1.0
DRAIN_S = 5.0
RETRY_AFTER_S = 5

Mode = Literal["normal", "maintenance", "lockdown"]
# ``gated``: passes in a lockdown, for what of it moves money is refused by the gate of whoever commits it.
Kind = Literal["read", "money", "gated", "usage"]

_REFUSED: dict[Mode, tuple[Kind, ...]] = {
    "normal": (),
    "maintenance": ("money", "gated", "usage"),
    "lockdown": ("money",),
}

_NEWEST = "select epoch, mode, retry_after_s from mode order by epoch desc limit 1"
_CHANGE = "insert into mode (mode, reason, retry_after_s) values ($1, $2, $3) returning epoch"


@dataclass(frozen=True)
class InForce:
    epoch: int
    mode: Mode
    retry_after_s: int | None


class Modes:
    """The mode in force, and the requests that are under way."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics) -> None:
        self.in_force: InForce | None = None
        self._database = database
        self._outbox = outbox
        self._under_way: Counter[Kind] = Counter()
        metrics.gauge("mode.epoch", lambda: self.in_force.epoch if self.in_force else 0)

    def refusal(self, kind: Kind) -> Problem | None:
        """Why such a request may not pass now."""
        if kind == "read":
            return None
        if self.in_force is None:
            return refused("starting", "the operating mode is not known yet")
        if kind not in _REFUSED[self.in_force.mode]:
            return None
        wait_s = self.in_force.retry_after_s or RETRY_AFTER_S
        return refused(self.in_force.mode, f"no {kind} in {self.in_force.mode}", retry_after_s=wait_s)

    @contextmanager
    def admitted(self, kind: Kind) -> Iterator[None]:
        """Pass a request of this kind, or raise its refusal."""
        refusal = self.refusal(kind)
        if refusal is not None:
            raise refusal
        self._under_way[kind] += 1
        try:
            yield
        finally:
            self._under_way[kind] -= 1

    async def change(self, mode: str, reason: str, retry_after_s: int | None) -> tuple[InForce, bool]:
        """Commit a new mode, obey it, wait for what it refuses and was admitted before: has all ended?"""
        if mode not in get_args(Mode):
            raise Problem(400, "malformed body", f"mode must be one of {get_args(Mode)}, not {mode!r}")

        async def store(session: Session) -> int:
            # Waits for all that was admitted under the old mode, and lets nothing in before the commit.
            await session.execute("select pg_advisory_xact_lock(hashtext('edge.mode'))")
            epoch: int = await session.fetchval(_CHANGE, mode, reason, retry_after_s)
            await self._outbox.add(session, "ops.mode.changed", {"epoch": epoch, "mode": mode})
            return epoch

        epoch = await self._database.run(store)
        changed = InForce(epoch, mode, retry_after_s)  # type: ignore[arg-type]
        self._obey(changed)
        return changed, await self._drained(_REFUSED[changed.mode])

    async def _drained(self, kinds: tuple[Kind, ...]) -> bool:
        """Whether none of these is under way any more, within DRAIN_S. Others may come and go."""
        deadline = asyncio.get_running_loop().time() + DRAIN_S
        while any(self._under_way[kind] for kind in kinds):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _obey(self, newer: InForce) -> None:
        if self.in_force is None or newer.epoch > self.in_force.epoch:
            self.in_force = newer

    async def run(self) -> None:
        """Keep up with changes made through other instances; a background task."""
        while True:
            try:
                row = await self._database.fetchrow(_NEWEST)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
            else:
                if row is not None:
                    self._obey(InForce(row["epoch"], row["mode"], row["retry_after_s"]))
            await asyncio.sleep(REFRESH_S if self.in_force is not None else 0.1)
