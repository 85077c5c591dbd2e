"""Sessions that were given up: what they hold is given back once their time is over, by the database's clock.

Each sweep takes the oldest ones, looks again in a batch (a request may have come), and ends them. Whatever
breaks it off, the next sweep finds what is left.
"""

from __future__ import annotations

import asyncio

from billing.charging.batches import Batches, Wanted
from billing.charging.books import Books
from billing.charging.sessions import expire
from billing.common import Database, Metrics, is_infrastructure

EVERY_S = 1.0
AT_ONCE = 200

_DUE = f"""
select id from session where state = 'open' and expires_at <= clock_timestamp()
order by expires_at limit {AT_ONCE}"""


class Expiry:
    """``run`` is a background task of charging."""

    def __init__(self, database: Database, batches: Batches, metrics: Metrics) -> None:
        self._database = database
        self._batches = batches
        self._metrics = metrics

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
        ended = await self._batches.settle(Wanted(session_ids=[row["id"] for row in due]), end_due)
        self._metrics.add("sessions.expired", ended)
        return len(due)


def end_due(books: Books) -> int:
    """End those whose time is over. Returns how many those are."""
    over = [one for one in books.sessions.values() if one.due]
    for one in over:
        expire(books, one)
    return len(over)
