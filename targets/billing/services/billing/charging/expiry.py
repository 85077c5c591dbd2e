"""Sessions that were given up: what they hold is given back once their time is over, by the database's clock.

Each sweep takes the oldest ones, looks again under the locks (a request may have come), and ends them in one
transaction. Whatever breaks it off, the next sweep finds what is left.
"""

from __future__ import annotations

import asyncio

from billing.charging.books import open_books, save
from billing.charging.sessions import expire
from billing.common import Database, Metrics, Outbox, Session, is_infrastructure

EVERY_S = 1.0
AT_ONCE = 200

_DUE = f"""
select id, subscriber from session where state = 'open' and expires_at <= clock_timestamp()
order by expires_at limit {AT_ONCE}"""


class Expiry:
    """``run`` is a background task of charging."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics, validity_s: float) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._validity_s = validity_s

    async def run(self) -> None:
        while True:
            try:
                while await self.sweep() == AT_ONCE:
                    pass
            except Exception as error:
                if not is_infrastructure(error):
                    raise
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> int:
        """End the oldest sessions whose time is over. Returns how many looked so."""
        due = await self._database.fetch(_DUE)
        if not due:
            return 0
        subscribers = {row["subscriber"] for row in due}
        ids = [row["id"] for row in due]

        async def end(session: Session) -> int:
            books = await open_books(session, subscribers, ids)
            over = [one for one in books.sessions.values() if one.due]
            for one in over:
                expire(books, one)
            await save(session, books, self._outbox, self._validity_s)
            return len(over)

        self._metrics.add("sessions.expired", await self._database.run(end))
        return len(due)
