"""Outages: the times in which a component was not to be had, as the traffic saw it, and who met them.

An outage begins when its component has been red for BEGINS_AFTER_S, and dates from the first of these
seconds; it ends once the component has not been red for ENDS_AFTER_S. Both are kept in the database, where
dunning and compensation look; while that is away, here. An edge that starts goes on with the outages
that it finds open. Who met one: whose requests failed, from LOOK_BACK_S before it was noticed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from billing.common import Database, Log, Outbox, Session, is_infrastructure
from billing.edge.status import Colour

BEGINS_AFTER_S = 2.0
ENDS_AFTER_S = 3.0
LOOK_BACK_S = 5.0
EVERY_S = 0.5

_OPEN = "select id, component, began_at from outage where ended_at is null"
_BEGIN = (
    "insert into outage (id, component, began_at) values ($1, $2, $3) on conflict do nothing returning true"
)
_END = "update outage set ended_at = $2 where id = $1 and ended_at is null returning true"
_MET = """
insert into outage_affected (outage_id, subscriber) select $1, * from unnest($2::bigint[])
on conflict do nothing"""
_AFFECTED = "select count(*) from outage_affected where outage_id = $1"


@dataclass
class Outage:
    """``unstored``: subscribers that the database has not heard of yet."""

    id: UUID
    component: str
    began_at: datetime
    ended_at: datetime | None = None
    stored: bool = False
    unstored: set[int] = field(default_factory=set)


class Failures:
    """Who met a failure of one component lately. ``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._met: deque[tuple[float, int]] = deque()

    def add(self, subscriber: int) -> None:
        self._met.append((self._clock(), subscriber))

    def take(self) -> set[int]:
        """All that were neither taken before nor forgotten."""
        met = {subscriber for _, subscriber in self._met}
        self._met.clear()
        return met

    def forget_old(self) -> None:
        """Those of more than LOOK_BACK_S ago: while there is no outage they met none."""
        oldest = self._clock() - LOOK_BACK_S
        while self._met and self._met[0][0] < oldest:
            self._met.popleft()


@dataclass
class Watched:
    """One component: since when it is red (or no longer red), and its outage, if it has one."""

    failures: Failures
    red: bool = False
    since: float = 0.0
    outage: Outage | None = None


class Outages:
    """``watch`` and ``store`` are background tasks; ``colours`` tells how the components are now.

    They are two, so that nobody is overlooked while the database keeps the other one waiting.
    """

    def __init__(
        self,
        components: Iterable[str],
        colours: Callable[[], Mapping[str, Colour]],
        database: Database,
        outbox: Outbox,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = {name: Watched(Failures(clock), since=clock()) for name in components}
        self._colours = colours
        self._database = database
        self._outbox = outbox
        self._log = log
        self._clock = clock
        self._ended: list[Outage] = []
        self._taken_over = False

    def met(self, component: str, subscriber: int) -> None:
        """A request of this subscriber failed."""
        if component in self._watched:
            self._watched[component].failures.add(subscriber)

    async def watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    async def store(self) -> None:
        while True:
            try:
                await self.store_all()
            except Exception as error:
                # The outage of the database is an outage, too: it is kept here until it can be stored.
                if not is_infrastructure(error):
                    raise
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Begin and end outages by what the components look like now."""
        now, seen = self._clock(), self._colours()
        for name, watched in self._watched.items():
            red = seen.get(name) == "red"
            if red != watched.red:
                watched.red, watched.since = red, now
            for_s = now - watched.since
            if red and watched.outage is None and for_s >= BEGINS_AFTER_S:
                began_at = datetime.now(UTC) - timedelta(seconds=for_s)
                watched.outage = Outage(uuid4(), name, began_at)
                self._log("outage.began", component=name, outage_id=watched.outage.id)
            if watched.outage is None:
                watched.failures.forget_old()
                continue
            watched.outage.unstored |= watched.failures.take()
            if not red and for_s >= ENDS_AFTER_S:
                watched.outage.ended_at = datetime.now(UTC) - timedelta(seconds=for_s)
                self._log("outage.ended", component=name, outage_id=watched.outage.id)
                self._ended.append(watched.outage)
                watched.outage = None

    async def store_all(self) -> None:
        """What the database does not know yet; first what has ended: each component has one open."""
        if not self._taken_over:
            await self._take_over()
            self._taken_over = True
        while self._ended:
            await self._keep(self._ended[0])
            self._ended.pop(0)
        for watched in self._watched.values():
            if watched.outage is not None and (watched.outage.unstored or not watched.outage.stored):
                await self._keep(watched.outage)

    async def _take_over(self) -> None:
        """Go on with what an earlier incarnation left open; what is no component's any more has ended."""
        for row in await self._database.fetch(_OPEN, attempts=2):
            left = Outage(row["id"], row["component"], row["began_at"], stored=True)
            watched = self._watched.get(left.component)
            if watched is None or (watched.outage is not None and watched.outage.stored):
                left.ended_at = datetime.now(UTC)
                self._ended.append(left)
                continue
            if watched.outage is not None:  # seen by us before the database could be asked: the same one
                left.unstored = watched.outage.unstored
            watched.outage = left

    async def _keep(self, outage: Outage) -> None:
        """What there is of an outage, with its events, in one transaction; may be done again."""
        met, ended_at = sorted(outage.unstored), outage.ended_at

        async def keep(session: Session) -> None:
            if await session.fetchval(_BEGIN, outage.id, outage.component, outage.began_at):
                await self._tell(session, outage, "began", 0)
            if met:
                await session.execute(_MET, outage.id, met)
            if ended_at is not None and await session.fetchval(_END, outage.id, ended_at):
                await self._tell(session, outage, "ended", await session.fetchval(_AFFECTED, outage.id))

        await self._database.run(keep)
        outage.stored = True
        outage.unstored -= set(met)

    async def _tell(self, session: Session, outage: Outage, what: str, affected: int) -> None:
        event = {
            "outage_id": str(outage.id),
            "component": outage.component,
            "began_at": outage.began_at.isoformat(),
            "ended_at": outage.ended_at.isoformat() if what == "ended" and outage.ended_at else None,
            "affected": affected,
        }
        await self._outbox.add(session, f"ops.outage.{what}", event, event_id=uuid5(outage.id, what))
