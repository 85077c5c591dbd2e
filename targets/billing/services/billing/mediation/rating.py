"""The rating worker: takes stored records in batches and rates or suspends each one, once.

A batch is one transaction: results, events and ``processed_at`` together. Whatever ends it early, the
records are there again, unprocessed; workers at the same time pass over each other's records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from billing.common import Bell, Database, Metrics, Outbox, Session, event_json
from billing.mediation.cdr import Cdr, Rated, Suspended, rate

BATCH = 50
POLL_S = 0.5
NAMESPACE = UUID("0d0a4d3a-1c0e-4a39-9d6e-8d6a7a2f7b11")

_TAKE = f"""
select record_id, subscriber, service, units, started_at, visitor_of from cdr_raw
where processed_at is null order by accepted_at limit {BATCH} for update skip locked"""

_RATED = """
insert into cdr_rated (record_id, subscriber, service, units, charge_minor, visitor_of)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[])"""

_EVENTS = """
insert into outbox (event_id, subject, payload)
select id, subject, payload::jsonb from unnest($1::uuid[], $2::text[], $3::text[]) e (id, subject, payload)"""

_SUSPENDED = "insert into suspense (record_id, reason) select * from unnest($1::text[], $2::text[])"

_PROCESSED = "update cdr_raw set processed_at = clock_timestamp() where record_id = any($1::text[])"


class RatingWorker:
    """``run`` works for ever; ``wake`` tells it that there is a new record."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._bell = Bell()

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            while await self._database.run(self.rate_batch) == BATCH:
                pass
            await self._bell.wait(POLL_S)

    async def rate_batch(self, session: Session) -> int:
        """Rate up to BATCH records; returns how many there were."""
        rows = await session.fetch(_TAKE)
        if not rows:
            return 0
        tariff = dict(await session.fetch("select service, price_micro_per_unit from tariff"))
        results = [(cdr, rate(cdr, tariff)) for cdr in (Cdr(**row) for row in rows)]
        await self._keep_rated(session, [(c, r) for c, r in results if isinstance(r, Rated)])
        await self._keep_suspended(session, [(c, r) for c, r in results if isinstance(r, Suspended)])
        await session.execute(_PROCESSED, [cdr.record_id for cdr, _ in results])
        self._metrics.add("rating.processed", len(results))
        return len(results)

    async def _keep_rated(self, session: Session, rated: Sequence[tuple[Cdr, Rated]]) -> None:
        if not rated:
            return
        await session.execute(
            _RATED,
            [cdr.record_id for cdr, _ in rated],
            [cdr.subscriber for cdr, _ in rated],
            [cdr.service for cdr, _ in rated],
            [cdr.units for cdr, _ in rated],
            [result.charge_minor for _, result in rated],
            [cdr.visitor_of for cdr, _ in rated],
        )
        events = [event_for(cdr, result) for cdr, result in rated]
        await session.execute(
            _EVENTS,
            [event_id for event_id, _, _ in events],
            [subject for _, subject, _ in events],
            [event_json(event_id, dict(payload)) for event_id, _, payload in events],
        )
        session.after_commit(self._outbox.wake)

    async def _keep_suspended(self, session: Session, suspended: Sequence[tuple[Cdr, Suspended]]) -> None:
        if suspended:
            await session.execute(
                _SUSPENDED,
                [cdr.record_id for cdr, _ in suspended],
                [result.reason for _, result in suspended],
            )


def event_for(cdr: Cdr, rated: Rated) -> tuple[UUID, str, Mapping[str, Any]]:
    """Id, subject and payload: home subscribers are charged, visitors go to roaming settlement."""
    payload: dict[str, Any] = {
        "record_id": cdr.record_id,
        "service": cdr.service,
        "units": cdr.units,
        "charge_minor": rated.charge_minor,
    }
    if cdr.visitor_of is None:
        subject, payload = "cdr.rated", {**payload, "subscriber": cdr.subscriber}
    else:
        subject, payload = "cdr.roaming", {**payload, "partner": cdr.visitor_of}
    return uuid5(NAMESPACE, f"{subject}/{cdr.record_id}"), subject, payload
