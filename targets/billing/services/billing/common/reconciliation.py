"""Reconciliation: what two sides keep of the same thing is compared, whatever should have brought it there.

Every few seconds each comparison lists what differs. Only what has stood for ``GRACE_S`` counts, so that
work on its way is no difference. Differences are rows of ``difference`` (open until they are seen no more)
and the gauge ``reconciliation.open``. One is mended: an event that the broker confirmed and its consumer
never got is sent again, which the consumer's inbox makes harmless. All others are for people to see:
money is never moved by a guess.

All state is in the database, and each step may be done again: whatever ends a sweep, the next one is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import asyncpg

from billing.common.app import Service
from billing.common.database import Database, Record, Session, is_infrastructure

EVERY_S = 5.0
GRACE_S = 15.0  # doubled with each time that an event is sent again: its consumer may be down for long
RESEND_AT_ONCE = 500

# Of a question; less than the client's, so that the server ends it and the connection is sound.
PATIENCE_S = 2.0

_PATIENCE = f"set local statement_timeout = '{PATIENCE_S:.0f}s'"

_UNRECONCILED = """
select o.id, o.event_id, o.subject, due.consumer,
       exists (
         select from public.consumed c where c.consumer = due.consumer and c.event_id = o.event_id) as arrived
from outbox o join unnest($1::text[], $2::text[]) due (subject, consumer) on due.subject = o.subject
where o.reconciled_at is null
  and (o.sent_at < clock_timestamp() - make_interval(secs => $3) or o.resends > 0)"""

_RECONCILED = "update outbox set reconciled_at = clock_timestamp() where id = any($1::bigint[])"

_RESEND = f"""
update outbox set sent_at = null, resends = resends + 1
where id in (
  select id from outbox where event_id = any($1::uuid[])
    and sent_at < clock_timestamp() - make_interval(secs => $2 * 2 ^ least(resends, 10))
  order by id limit {RESEND_AT_ONCE})
returning id"""

_SEEN = """
insert into difference (comparison, reference, problem)
select $1, d.reference, d.problem from unnest($2::text[], $3::text[]) d (reference, problem)
on conflict (comparison, reference) do update
set problem = excluded.problem, last_seen_at = clock_timestamp(), mended_at = null
returning xmax = 0 as is_new"""

_MENDED = """
update difference set mended_at = clock_timestamp()
where comparison = $1 and mended_at is null and reference <> all($2::text[])"""


@dataclass(frozen=True)
class Difference:
    """``reference`` names one thing, once per comparison; ``problem`` says what each side holds."""

    reference: str
    problem: str


# Lists all differences that stand now; None when the other side did not answer.
Comparison = Callable[[], Awaitable[Sequence[Difference] | None]]


async def ask(database: Database, sql: str, *args: object) -> list[Record]:
    """Rows of a question about much history: one that takes too long fails alone, and nobody's connection."""

    async def read(session: Session) -> list[Record]:
        await session.execute(_PATIENCE)
        return await session.fetch(sql, *args)

    return await database.run(read, attempts=1)


class Reconciliation:
    """``run`` is a background task of the service. ``consumers``: who must get the events of a subject."""

    def __init__(self, service: Service, consumers: Mapping[str, Sequence[str]]) -> None:
        self._database = service.database
        self._outbox = service.outbox
        self._metrics = service.metrics
        self._log = service.log
        self._due = [(subject, consumer) for subject in consumers for consumer in consumers[subject]]
        self._comparisons: dict[str, Comparison] = {}
        self._open: dict[str, int] = {}
        self.compare("events", self._events)
        service.metrics.gauge("reconciliation.open", lambda: sum(self._open.values()))

    def compare(self, name: str, comparison: Comparison) -> None:
        self._comparisons[name] = comparison

    def compare_by_sql(self, name: str, sql: str) -> None:
        """``sql`` gives ``reference`` and ``problem`` of what differs; ``$1`` is the grace in seconds."""
        self.compare(name, partial(self._ask, sql))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)  # first: after an outage the consumers have much to catch up on
            await self.sweep()

    async def sweep(self) -> None:
        """Each comparison once; one that fails stops no other, but for a database that fails them all."""
        for name, comparison in self._comparisons.items():
            try:
                differences = await comparison()
                if differences is not None:
                    await self._database.run(partial(self._keep, name, differences))
            except Exception as error:
                if is_infrastructure(error) and not isinstance(error, asyncpg.QueryCanceledError):
                    raise
                self._log("reconciliation.failed", comparison=name, error=error)
                differences = None
            if differences is None:
                self._metrics.add("reconciliation.unanswered")

    async def _ask(self, sql: str) -> list[Difference]:
        rows = await ask(self._database, sql, GRACE_S)
        return [Difference(row["reference"], row["problem"]) for row in rows]

    async def _keep(self, name: str, differences: Iterable[Difference], session: Session) -> None:
        by_reference = {item.reference: item.problem for item in differences}
        seen = await session.fetch(_SEEN, name, list(by_reference), list(by_reference.values()))
        await session.execute(_MENDED, name, list(by_reference))
        self._open[name] = len(by_reference)
        if found := sum(row["is_new"] for row in seen):
            self._metrics.add("reconciliation.found", found)
            reference, problem = next(iter(by_reference.items()))
            self._log(
                "reconciliation.found", comparison=name, count=found, such_as=reference, problem=problem
            )

    async def _events(self) -> list[Difference]:
        """Events that were sent and never arrived; sends them again."""
        subjects, consumers = [subject for subject, _ in self._due], [consumer for _, consumer in self._due]
        due = await ask(self._database, _UNRECONCILED, subjects, consumers, GRACE_S)
        lost = [row for row in due if not row["arrived"]]
        if arrived := {row["id"] for row in due} - {row["id"] for row in lost}:
            await self._database.execute(_RECONCILED, sorted(arrived), attempts=2)
        if lost:
            again = await self._database.fetch(_RESEND, [row["event_id"] for row in lost], GRACE_S)
            self._metrics.add("reconciliation.resent", len(again))
            self._outbox.wake()
        return [
            Difference(
                f"{row['consumer']}/{row['event_id']}", f"{row['subject']} was sent, and never applied"
            )
            for row in lost
        ]
