"""Compensates those who met an outage: once each, by the rule, in batches that any incarnation resumes.

It moves money, so the gate is asked in each transaction: in a lockdown it waits. What each one gets was fixed
when the outage's end was heard of.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from billing.common import Bell, Database, Log, Metrics, Outbox, Session, admit, is_lockdown

NAMESPACE = UUID("d5a8f7b6-0b0e-4b86-8f57-6c1c9e3d2a48")
BATCH = 100
POLL_S = 2.0

_OPEN = """
select outage_id, each_minor from outage_heard where compensated_at is null
order by ended_at limit 1 for update"""
_NEXT = f"""
select subscriber from public.outage_affected a where outage_id = $1
  and not exists (select from compensation c where c.outage_id = $1 and c.subscriber = a.subscriber)
order by subscriber limit {BATCH}"""
_GRANT = """
insert into compensation (outage_id, subscriber, amount_minor, epoch)
select $1::uuid, subscriber, $2::bigint, $3::bigint from unnest($4::bigint[]) a (subscriber)"""
_DONE = "update outage_heard set compensated_at = clock_timestamp() where outage_id = $1"


class Compensation:
    """``run`` works for ever; ``wake`` tells it that an outage has ended."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics, log: Log) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._log = log
        self._bell = Bell()

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            try:
                while await self._database.run(self.grant_some):
                    pass
            except Exception as error:
                if not is_lockdown(error):
                    raise
                self._log("compensation.waits", error=error)
            await self._bell.wait(POLL_S)

    async def grant_some(self, session: Session) -> bool:
        """The next ones of the oldest outage; False when there is nothing to do."""
        outage = await session.fetchrow(_OPEN)
        if outage is None:
            return False
        outage_id: UUID = outage["outage_id"]
        epoch = await admit(session)
        subscribers = [row["subscriber"] for row in await session.fetch(_NEXT, outage_id)]
        if not subscribers:
            await session.execute(_DONE, outage_id)
            return True
        await session.execute(_GRANT, outage_id, outage["each_minor"], epoch, subscribers)
        events = [
            (
                uuid5(NAMESPACE, f"compensation.granted/{outage_id}/{subscriber}"),
                {
                    "outage_id": str(outage_id),
                    "subscriber": subscriber,
                    "amount_minor": outage["each_minor"],
                },
            )
            for subscriber in subscribers
        ]
        await self._outbox.add_all(session, "compensation.granted", events)
        self._metrics.add("compensations", len(subscribers))
        return True
