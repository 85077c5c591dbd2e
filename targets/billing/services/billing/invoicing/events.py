"""What happened elsewhere, as rows of invoicing: usage to bill, payments, notices delivered, ends of outages.

All effects of a batch are in the transaction that has its inbox rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.common import Event, Log, Metrics, Session, read_instant
from billing.invoicing.rules import Rules

CURRENCY = "EUR"

_ITEMS = """
insert into item (record_id, rating, kind, subscriber, service, units, amount_minor, started_at)
select e.*
from unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
            $8::timestamptz[]) e (record_id, rating, kind, subscriber, service, units, amount, at)
join customer c on c.subscriber = e.subscriber
on conflict do nothing"""

_PAID = """
with new as (
  insert into payment_in (payment_id, invoice_id, subscriber, amount_minor)
  select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
  on conflict do nothing returning invoice_id, amount_minor),
sums as (select invoice_id, sum(amount_minor)::bigint as amount_minor from new group by invoice_id),
locked as (
  select i.id from invoice i join sums s on s.invoice_id = i.id order by i.id for update of i)
update invoice i set
  paid_minor = paid_minor + s.amount_minor,
  state = case when paid_minor + s.amount_minor >= total_minor then 'paid' else state end,
  paid_at = case when paid_minor + s.amount_minor >= total_minor then coalesce(paid_at, clock_timestamp()) end
from sums s join locked l on l.id = s.invoice_id where i.id = l.id
returning i.id, i.paid_minor - i.total_minor as over_minor"""

_NOTIFIED = """
update invoice set notified_at = clock_timestamp()
where notified_at is null and id in (
  select id from invoice where event_id = any($1::uuid[]) order by id for update)"""

_HEARD = """
insert into outage_heard (outage_id, component, began_at, ended_at, each_minor, compensated_at)
values ($1, $2, $3, $4, $5, case when $5::bigint = 0 then clock_timestamp() end)
on conflict do nothing returning true"""

# What was unpaid is due later by as much of the outage as it lived through.
_CREDIT = """
with unpaid as (
  select id, issued_at from invoice where state = 'issued' and issued_at < $3 order by id for update),
credit as (
  insert into grace_credit (outage_id, invoice_id, moved_ms)
  select $1::uuid, id, ceil(extract(epoch from $3 - greatest($2, issued_at)) * 1000)::bigint from unpaid
  returning invoice_id, moved_ms)
update invoice i set due_at = due_at + make_interval(secs => c.moved_ms / 1000.0)
from credit c where i.id = c.invoice_id"""


class Inflow:
    """``handle`` is the consumer's handler. ``outage_ended`` is called after the commit of one."""

    def __init__(
        self,
        rules: Rules,
        frozen_by: Sequence[str],
        outage_ended: Callable[[], None],
        metrics: Metrics,
        log: Log,
    ) -> None:
        """``frozen_by``: components in whose outages due dates move."""
        self._rules = rules
        self._frozen_by = frozenset(frozen_by)
        self._outage_ended = outage_ended
        self._metrics = metrics
        self._log = log

    async def handle(self, session: Session, events: Sequence[Event]) -> None:
        await self._keep_items(session, [e for e in events if e.subject in ("cdr.rated", "cdr.reversed")])
        await self._take_payments(
            session,
            [e for e in events if e.subject == "payment.settled" and e.payload.get("kind") == "invoice"],
        )
        notices = [e for e in events if e.subject == "notice.delivered"]
        if notices:
            await session.execute(_NOTIFIED, [UUID(e.payload["source_event_id"]) for e in notices])
        for event in events:
            if event.subject == "ops.outage.ended":
                await self._outage(session, event.payload)

    async def _keep_items(self, session: Session, events: Sequence[Event]) -> None:
        """Usage and what was taken back of it; the database leaves out who is prepaid."""
        if events:
            columns = zip(*(item_of(event) for event in events), strict=True)
            await session.execute(_ITEMS, *(list(column) for column in columns))

    async def _take_payments(self, session: Session, events: Sequence[Event]) -> None:
        """A payment of no invoice that we know is kept, too: reconciliation shows it to people."""
        if not events:
            return
        rows = await session.fetch(
            _PAID,
            [UUID(e.payload["payment_id"]) for e in events],
            [UUID(e.payload["invoice_id"]) for e in events],
            [int(e.payload["subscriber"]) for e in events],
            [int(e.payload["amount_minor"]) for e in events],
        )
        for row in rows:
            if row["over_minor"] > 0:
                self._metrics.add("invoices.overpaid")
                self._log("invoice.overpaid", invoice_id=row["id"], over_minor=row["over_minor"])

    async def _outage(self, session: Session, payload: dict[str, Any]) -> None:
        """Its end: due dates move, and compensation is to be granted."""
        outage_id, component = UUID(payload["outage_id"]), str(payload["component"])
        began_at, ended_at = (datetime.fromisoformat(payload[name]) for name in ("began_at", "ended_at"))
        each_minor = self._rules.compensation_minor(began_at, ended_at)
        if not await session.fetchval(_HEARD, outage_id, component, began_at, ended_at, each_minor):
            return
        if component in self._frozen_by:
            await session.execute(_CREDIT, outage_id, began_at, ended_at)
        session.after_commit(self._outage_ended)


def item_of(event: Event) -> tuple[str, int, str, int, str, int, int, datetime]:
    """Record, rating, kind, subscriber, service, units, amount (a reversal's is negative), and its instant.

    Raises on fields that are missing or make no sense: such an event is parked, and holds up no other.
    """
    fields = event.payload
    charge_minor, started_at = _whole(fields, "charge_minor"), read_instant(fields["started_at"])
    reversal = event.subject == "cdr.reversed"
    if not reversal and fields["currency"] != CURRENCY:  # a reversal has that of its rating
        raise ValueError(f"home subscribers are billed in {CURRENCY}, not in {fields['currency']!r}")
    if started_at is None:
        raise ValueError(f"started_at must be an instant with a zone, not {fields['started_at']!r}")
    return (
        str(fields["record_id"]),
        _whole(fields, "rating", at_least=1),
        "reversal" if reversal else "usage",
        _whole(fields, "subscriber"),
        str(fields["service"]),
        _whole(fields, "units"),
        -charge_minor if reversal else charge_minor,
        started_at,
    )


def _whole(fields: dict[str, Any], name: str, *, at_least: int = 0) -> int:
    value = fields[name]
    if type(value) is not int or value < at_least:
        raise ValueError(f"{name} must be a whole number from {at_least}, not {value!r}")
    return value
