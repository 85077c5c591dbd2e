"""Giving back what a PSP took: asked for once, done once, resumed after whatever came between.

The request is stored, admitted by the gate, before the PSP hears of it; the PSP gives a charge back once,
however often it is asked. What is not known to be done stays pending, and the worker asks again, each time
by leave of the gate: in a lockdown it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4, uuid5

from billing.common import (
    Database,
    Log,
    Metrics,
    Outbox,
    Problem,
    Record,
    after_a_write,
    event_json,
    is_infrastructure,
    is_lockdown,
    key_reused,
)
from billing.payments.cashier import Conclusion
from billing.payments.psp import Psp
from billing.payments.rounds import until_few
from billing.payments.store import PAYMENT, Payment, event_fields, payment_of

EVERY_S = 1.0
# Of one PSP, asked for and admitted at once: none waits with a leave that a lockdown has ended.
CONCURRENT = 8
FIRST_TRY_S = 2.5  # so long the request itself may take; then the refund is the worker's

_FIELDS = f"r.id as refund_id, r.key as refund_key, r.psp, r.state, {PAYMENT}"
_OF = f"select {_FIELDS} from refund r join payment p on p.id = r.payment_id"

_IS_PAYMENT = "select exists (select from payment where id = $1)"

# Top-ups only: to refund the payment of an invoice would leave the invoice paid.
_ASK = f"""
with gate as materialized (select public.admit('money') as epoch),
     r as (insert into refund (id, key, payment_id, amount_minor, psp, state, epoch, next_try_at)
           select $1::uuid, $2, p.id, p.amount_minor, p.psp, 'pending', gate.epoch,
                  clock_timestamp() + make_interval(secs => $5)
           from gate, payment p where p.id = $3 and p.kind = 'topup' and p.state = 'settled'
             and p.psp = any($4::text[])
           on conflict do nothing returning *)
select {_FIELDS} from r join payment p on p.id = r.payment_id"""

_DONE = """
with r as (update refund set state = 'done', done_at = clock_timestamp()
           where id = $1 and state = 'pending' returning id),
     o as (insert into outbox (event_id, subject, payload)
           select $2::uuid, 'payment.refunded', $3::jsonb from r)
select count(*) from r"""

# Whose turn has come, by leave of the gate; the pauses grow to 4 s.
_DUE = f"""
with gate as materialized (select public.admit('money') as epoch),
     due as (select id from refund, gate
             where state = 'pending' and psp = $1 and next_try_at <= clock_timestamp()
             order by next_try_at limit $2 for update of refund skip locked)
update refund r set epoch = gate.epoch, tries = r.tries + 1,
       next_try_at = clock_timestamp() + (1 - random() / 2) * interval '0.5 s' * 2 ^ least(r.tries, 3)
from gate, due, payment p where r.id = due.id and p.id = r.payment_id
returning {_FIELDS}"""


@dataclass(frozen=True)
class Refund:
    """``key``: of the request for it. ``payment``: what is given back, whole."""

    id: UUID
    key: str
    psp: str
    state: str
    payment: Payment


class RefundStore:
    """The table ``refund``: each step is one statement, and may be sent twice."""

    def __init__(self, database: Database, outbox: Outbox, psps: Sequence[str]) -> None:
        self._database = database
        self._outbox = outbox
        self._psps = list(psps)

    async def ask(self, payment_id: UUID, key: str) -> Refund | None:
        """Store a new refund. None when there is one, or the payment is no top-up a PSP holds."""
        row = await self._database.fetchrow(
            _ASK, uuid4(), key, payment_id, self._psps, FIRST_TRY_S, attempts=2
        )
        return None if row is None else _refund(row)

    async def of_payment(self, payment_id: UUID) -> Refund | None:
        row = await self._database.fetchrow(f"{_OF} where p.id = $1", payment_id, attempts=2)
        return None if row is None else _refund(row)

    async def is_payment(self, payment_id: UUID) -> bool:
        known: bool = await self._database.fetchval(_IS_PAYMENT, payment_id, attempts=2)
        return known

    async def of_key(self, key: str) -> Refund | None:
        row = await self._database.fetchrow(f"{_OF} where r.key = $1", key, attempts=2)
        return None if row is None else _refund(row)

    async def done(self, refund: Refund) -> bool:
        """State and event. False when it was done already."""
        event_id = uuid5(refund.id, "refunded")
        fields = {"refund_id": str(refund.id), **event_fields(refund.payment, refund.psp)}
        done = await self._database.fetchval(
            _DONE, refund.id, event_id, event_json(event_id, fields), attempts=3
        )
        self._outbox.wake()
        return bool(done)

    async def due(self, psp: str) -> list[Refund]:
        """A PSP's refunds whose turn it is, each for one try: up to CONCURRENT, those that waited longest."""
        return [_refund(row) for row in await self._database.fetch(_DUE, psp, CONCURRENT)]


class Refunds:
    """``refund`` serves a request; ``run`` is the worker of one PSP: a silent one keeps no other waiting."""

    def __init__(self, store: RefundStore, psps: Mapping[str, Psp], metrics: Metrics, log: Log) -> None:
        self._store = store
        self._psps = psps
        self._metrics = metrics
        self._log = log
        self._suspended = False

    async def refund(self, payment_id: UUID, key: str) -> Conclusion:
        """Give a payment back, or say how far that has come. Raises Problem 404 or 422."""
        try:
            created = await self._store.ask(payment_id, key)
        except Exception as error:
            if not is_lockdown(error):
                raise
            with after_a_write():
                known = await self._store.of_payment(payment_id)
            if known is None or known.key != key:
                raise
            return _answer(known, known.state)
        if created is None:
            with after_a_write():
                return await self._asked_before(payment_id, key)
        self._metrics.add("refunds.opened")
        return _answer(created, "done" if await self._try_at_once(created) else "pending")

    async def _asked_before(self, payment_id: UUID, key: str) -> Conclusion:
        """How far it has come, for who asked for it. Raises Problem 404 or 422."""
        known = await self._store.of_payment(payment_id)
        if known is not None and known.key == key:
            return _answer(known, known.state)
        if known is not None:
            raise Problem(422, "not refundable", "it is given back under another key")
        if await self._store.of_key(key) is not None:
            raise key_reused(key)
        if not await self._store.is_payment(payment_id):
            raise Problem(404, "no such payment", str(payment_id))
        raise Problem(422, "not refundable", "it is no settled top-up by a provider")

    async def of(self, payment_id: UUID) -> Refund | None:
        """The refund of a payment, where one was asked for."""
        return await self._store.of_payment(payment_id)

    async def _try_at_once(self, refund: Refund) -> bool:
        """From here on an error of the database is no reason to say no."""
        try:
            return await self.attempt(refund)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self._log("refund.interrupted", refund_id=refund.id, error=error)
            return False

    async def attempt(self, refund: Refund) -> bool:
        """Ask the provider once. Whether it is known to be done."""
        if not await self._psps[refund.psp].refund(refund.payment):
            self._metrics.add("refunds.unanswered")
            return False
        await self.conclude(refund)
        return True

    async def conclude(self, refund: Refund) -> None:
        """The provider has given the money back."""
        if await self._store.done(refund):
            self._metrics.add("refunds.done")

    async def run(self, psp: str) -> None:
        """A PSP's refunds left pending, by this incarnation or another."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.sweep(psp)

    async def sweep(self, psp: str) -> None:
        """Tries of a PSP's refunds whose turn has come, until few are left; none in a lockdown."""
        await until_few(partial(self._admitted, psp), self.attempt, CONCURRENT)

    async def _admitted(self, psp: str) -> Sequence[Refund]:
        """Those of a PSP whose turn has come; none in a lockdown."""
        try:
            due = await self._store.due(psp)
        except Exception as error:
            if not is_lockdown(error):
                raise
            if not self._suspended:
                self._log("refunds.suspended", reason=error)
            self._suspended = True
            return ()
        self._suspended = False
        return due


def _answer(refund: Refund, state: str) -> Conclusion:
    body = {"refund_id": str(refund.id), "status": state, "amount_minor": refund.payment.amount_minor}
    return Conclusion(201 if state == "done" else 202, body)


def _refund(row: Record) -> Refund:
    return Refund(row["refund_id"], row["refund_key"], row["psp"], row["state"], payment_of(row))
