"""Bills a period: what customers used, and was received before the run began, becomes invoices.

One worker, driven by what the database says: whatever ends it, the next one goes on where the rows stand.

collecting  waits until all that came before the run began can be seen
billing     customers in batches, by their numbers: invoices with numbers, lines and events, and how
            far the run has come, in one transaction
closing     what was billed in all
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID, uuid5

from billing.common import Bell, Database, Log, Metrics, Outbox, Record, Session
from billing.invoicing.rules import Rules

NAMESPACE = UUID("8b4e9d0b-6c7a-4a4f-9b2e-2f6d1c0a7e35")
CUSTOMERS_PER_BATCH = 20
POLL_S = 2.0

_OPEN_RUN = "select period, state from bill_run where state <> 'done' order by started_at limit 1"
# Waits until whoever has begun to add items has ended: an item's instant is drawn before its commit.
_ALL_IN = "lock table item in share mode"
_BILLING = "select started_at, done_to from bill_run where period = $1 and state = 'billing' for update"
_CUSTOMERS = f"""
select distinct subscriber from item where invoice_id is null and received_at < $1 and subscriber > $2
order by subscriber limit {CUSTOMERS_PER_BATCH}"""
_OWED = """
select subscriber, service, count(*)::int as items, sum(amount_minor)::bigint as amount_minor from item
where subscriber = any($1::bigint[]) and invoice_id is null and received_at < $2
group by subscriber, service order by subscriber, service"""
# Locked until the commit: a number that is drawn is used, or drawn again.
_NUMBERS = "update invoice_number set last = last + $1 returning last - $1"
_INVOICES = """
insert into invoice (id, number, period, subscriber, total_minor, state, event_id, due_at)
select id, number, $1::text, subscriber, total, 'issued', event_id,
       clock_timestamp() + make_interval(secs => $2)
from unnest($3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::uuid[])
  e (id, number, subscriber, total, event_id)
returning id, due_at"""
_LINES = """
insert into invoice_line (invoice_id, line, service, items, amount_minor)
select * from unnest($1::uuid[], $2::int[], $3::text[], $4::int[], $5::bigint[])"""
_TAKE = """
with taken as (
  update item set invoice_id = l.invoice_id, line = l.line
  from unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[]) l (invoice_id, line, service, subscriber)
  where item.subscriber = l.subscriber and item.service = l.service
    and item.invoice_id is null and item.received_at < $5
  returning true)
select count(*) from taken"""
_PROGRESS = "update bill_run set done_to = $2, carried = carried + $3 where period = $1"
_ADVANCE = "update bill_run set state = $3 where period = $1 and state = $2"
_CLOSE = """
update bill_run
set state = 'done', finished_at = clock_timestamp(), invoices = made.invoices, total_minor = made.total
from (select count(*)::int as invoices, coalesce(sum(total_minor), 0)::bigint as total
      from invoice where period = $1) made
where period = $1 and state = 'closing'"""


@dataclass(frozen=True)
class Line:
    """What one service comes to."""

    line: int
    service: str
    items: int
    amount_minor: int


@dataclass(frozen=True)
class Draft:
    """An invoice before it has its number. Its ids follow from period and subscriber: it cannot be two."""

    period: str
    subscriber: int
    lines: tuple[Line, ...]

    @property
    def id(self) -> UUID:
        return uuid5(NAMESPACE, f"invoice/{self.period}/{self.subscriber}")

    @property
    def event_id(self) -> UUID:
        return uuid5(NAMESPACE, f"invoice.issued/{self.period}/{self.subscriber}")

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)


def drafts(period: str, owed: Sequence[Mapping[str, object]]) -> list[Draft]:
    """One per subscriber who owes something. ``owed``: subscriber, service, items and amount_minor."""
    by_subscriber: dict[int, list[Line]] = {}
    for row in owed:
        lines = by_subscriber.setdefault(row["subscriber"], [])  # type: ignore[arg-type]
        lines.append(Line(len(lines) + 1, row["service"], row["items"], row["amount_minor"]))  # type: ignore[arg-type]
    made = [Draft(period, subscriber, tuple(lines)) for subscriber, lines in by_subscriber.items()]
    return [draft for draft in made if draft.total_minor > 0]


class BillingRuns:
    """``run`` works on open runs for ever; ``wake`` tells it that there is one."""

    def __init__(self, database: Database, outbox: Outbox, rules: Rules, metrics: Metrics, log: Log) -> None:
        self._database = database
        self._outbox = outbox
        self._rules = rules
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._steps: dict[str, Callable[[str], Awaitable[None]]] = {
            "collecting": self._collect,
            "billing": self._bill,
            "closing": self._close,
        }

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            while open_run := await self._database.fetchrow(_OPEN_RUN, attempts=2):
                self._log("billing_run.step", period=open_run["period"], state=open_run["state"])
                await self._steps[open_run["state"]](open_run["period"])
            await self._bell.wait(POLL_S)

    async def _collect(self, period: str) -> None:
        await self._database.run(lambda session: session.execute(_ALL_IN))
        await self._database.execute(_ADVANCE, period, "collecting", "billing", attempts=2)

    async def _bill(self, period: str) -> None:
        while await self._database.run(partial(self.bill_some, period)):
            pass
        await self._database.execute(_ADVANCE, period, "billing", "closing", attempts=2)

    async def _close(self, period: str) -> None:
        await self._database.execute(_CLOSE, period, attempts=2)

    async def bill_some(self, period: str, session: Session) -> bool:
        """The next customers; False when none is left."""
        run = await session.fetchrow(_BILLING, period)
        if run is None:
            return False
        rows = await session.fetch(_CUSTOMERS, run["started_at"], run["done_to"])
        customers = [row["subscriber"] for row in rows]
        if not customers:
            return False
        owed = await session.fetch(_OWED, customers, run["started_at"])
        made = drafts(period, owed)
        if made:
            await self._issue(session, made, run["started_at"])
        await session.execute(_PROGRESS, period, customers[-1], len(customers) - len(made))
        self._metrics.add("invoices.issued", len(made))
        return True

    async def _issue(self, session: Session, made: Sequence[Draft], before: datetime) -> None:
        """The invoices with their lines and events; ``before``: the run's cut-off."""
        last: int = await session.fetchval(_NUMBERS, len(made))
        numbers = {draft.id: last + nth for nth, draft in enumerate(made, 1)}
        issued = await session.fetch(
            _INVOICES,
            made[0].period,
            self._rules.due_after_s,
            [draft.id for draft in made],
            [numbers[draft.id] for draft in made],
            [draft.subscriber for draft in made],
            [draft.total_minor for draft in made],
            [draft.event_id for draft in made],
        )
        lines = [(draft, line) for draft in made for line in draft.lines]
        named = (
            [draft.id for draft, _ in lines],
            [line.line for _, line in lines],
            [line.service for _, line in lines],
        )
        await session.execute(
            _LINES, *named, [line.items for _, line in lines], [line.amount_minor for _, line in lines]
        )
        taken = await session.fetchval(_TAKE, *named, [draft.subscriber for draft, _ in lines], before)
        if taken != sum(line.items for _, line in lines):
            raise RuntimeError(
                f"{taken} items were taken, and others were summed up: their number has changed"
            )
        await self._tell(session, made, numbers, issued)

    async def _tell(
        self, session: Session, made: Sequence[Draft], numbers: Mapping[UUID, int], issued: Sequence[Record]
    ) -> None:
        due_at = {row["id"]: row["due_at"].isoformat() for row in issued}
        events = [
            (
                draft.event_id,
                {
                    "invoice_id": str(draft.id),
                    "number": numbers[draft.id],
                    "subscriber": draft.subscriber,
                    "period": draft.period,
                    "total_minor": draft.total_minor,
                    "due_at": due_at[draft.id],
                },
            )
            for draft in made
        ]
        await self._outbox.add_all(session, "invoice.issued", events)
