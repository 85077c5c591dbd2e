"""Balance reads, from the primary or the replica, each with the instant it is true for.

``as_of``: whatever was committed before it is in the answer. On the primary that is the beginning of the
transaction, for its snapshot is younger; on a replica, the newest heartbeat that has arrived there. A replica
more than MAX_LAG_S behind is left for the primary; when that cannot be read, the stale answer is given, and
says its age by ``as_of``. Roaming authorisations (``roamers``) are read by the same rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from billing.charging.ledger import main_account
from billing.common import Database, Metrics, Problem, Record, Unavailable, is_infrastructure

MAX_LAG_S = 2.0
READ_S = 1.0
AVOID_S = 1.0
HEARTBEAT_S = 0.5

Read = Literal["primary", "replica"]

# Read-only is settled when the transaction begins. pg_is_in_recovery() tells what is true when it is asked:
# on a standby that is being promoted, false for a snapshot that misses what was yet to be replayed.
_READ = """
select a.balance_minor, a.version, case when s.standby then h.at else transaction_timestamp() end as as_of,
       case when s.standby then extract(epoch from clock_timestamp() - h.at)::float8 else 0 end as lag_s
from (select current_setting('transaction_read_only')::boolean as standby) s
cross join heartbeat h left join account a on a.id = $1"""


@dataclass
class Source:
    """A database to read from, within ``read_s``; after a failure it is left alone for a while."""

    name: Read
    database: Database
    answers: Callable[[], bool]
    read_s: float = READ_S
    avoided_until: float = 0.0

    async def read(self, sql: str, *args: object) -> Record | None:
        """One row, or None when this source cannot be read now."""
        if not self.answers() or time.monotonic() < self.avoided_until:
            return None
        try:
            async with asyncio.timeout(self.read_s):
                return await self.database.fetchrow(sql, *args)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self.avoided_until = time.monotonic() + AVOID_S
            return None


class Sources:
    """The primary and its replica. Rows have ``lag_s``: how far behind their source was."""

    def __init__(self, primary: Source, replica: Source, metrics: Metrics, name: str) -> None:
        """``name``: what the counters begin with."""
        self._primary = primary
        self._replica = replica
        self._metrics = metrics
        self._name = name

    async def newest(self, sql: str, *args: object) -> Record | None:
        """From the primary, or else from the replica."""
        row = await self._primary.read(sql, *args)
        if row is None:
            self._metrics.add(f"{self._name}.primary_missed")
            row = await self._replica.read(sql, *args)
        return row

    async def fresh_enough(self, sql: str, *args: object) -> Record | None:
        """From the replica, unless it is more than MAX_LAG_S behind and the primary can be read."""
        row = await self._replica.read(sql, *args)
        if row is not None and row["lag_s"] <= MAX_LAG_S:
            self._metrics.add(f"{self._name}.from_replica")
            return row
        self._metrics.add(f"{self._name}.replica_missed")
        return await self._primary.read(sql, *args) or row


class Balances:
    """``read`` answers from the preferred source, or from the other one."""

    def __init__(self, primary: Source, replica: Source, metrics: Metrics) -> None:
        self._sources = Sources(primary, replica, metrics, "balance")

    async def read(self, subscriber: int, preferred: Read) -> dict[str, Any]:
        """Raises Problem 404, or Unavailable when neither source can be read."""
        read = self._sources.fresh_enough if preferred == "replica" else self._sources.newest
        row = await read(_READ, main_account(subscriber))
        if row is None:
            raise Unavailable("neither the primary nor the replica can be read")
        if row["balance_minor"] is None:
            raise Problem(404, "no such subscriber", str(subscriber))
        as_of: datetime = row["as_of"]
        return {
            "subscriber": subscriber,
            "balance_minor": row["balance_minor"],
            "version": row["version"],
            "as_of": as_of.astimezone(UTC).isoformat(),
        }


async def beat(database: Database) -> None:
    """Keep the heartbeat going; a background task."""
    while True:
        await database.execute("update heartbeat set at = clock_timestamp()", attempts=2)
        await asyncio.sleep(HEARTBEAT_S)
