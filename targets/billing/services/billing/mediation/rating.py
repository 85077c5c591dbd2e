"""The rating worker: takes stored records in batches and rates or suspends each one, once.

A batch is one transaction: ``processed_at``, results and events together. Whatever ends it early, the
records are there again, unprocessed; workers at the same time pass over each other's records. It has as few
statements as it can: each is a round trip.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from billing.common import Bell, Database, Metrics, Outbox, Session
from billing.mediation.cdr import Cdr
from billing.mediation.prices import HOLD, Prices
from billing.mediation.ratings import Rating, keep_ratings, keep_suspended
from billing.mediation.tariff import Rated, Suspended, rate

BATCH = 50
POLL_S = 1.0  # for what another incarnation left; new records ring the bell
# Records come one by one. A batch costs as much as one record does, here and at each consumer of its events.
GATHER_S = 0.2

_TAKE = f"""
with held as materialized ({HOLD}),
taken as (
  select record_id from cdr_raw, held
  where processed_at is null order by accepted_at limit {BATCH} for update of cdr_raw skip locked)
update cdr_raw c set processed_at = clock_timestamp() from taken where c.record_id = taken.record_id
returning c.record_id, subscriber, service, units, started_at, visitor_of"""


class RatingWorker:
    """``run`` works for ever; ``wake`` tells it that there is a new record."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics, prices: Prices) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._prices = prices
        self._bell = Bell()

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            while await self._database.run(self.rate_batch) == BATCH:
                pass
            await asyncio.sleep(GATHER_S)
            await self._bell.wait(POLL_S)

    async def rate_batch(self, session: Session) -> int:
        """Rate up to BATCH records; returns how many there were."""
        rows = await session.fetch(_TAKE)
        if not rows:
            return 0
        book, now = await self._prices.held(session), datetime.now(UTC)
        results = [(cdr, rate(cdr, book, now)) for cdr in (Cdr(**row) for row in rows)]
        await keep_ratings(
            session, self._outbox, [Rating(c, 1, r) for c, r in results if isinstance(r, Rated)]
        )
        await keep_suspended(session, [(c, r) for c, r in results if isinstance(r, Suspended)])
        self._metrics.add("rating.processed", len(results))
        return len(results)
