"""Payments through a PSP, in the database: each step is one statement, so one transaction and one round trip.

Each may be sent twice: a step that was done already changes nothing. What begins something asks the gate
(``public.admit``) first: in a lockdown that raises what ``is_lockdown`` knows, and nothing is done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from billing.common import Database, Outbox, Record, after_a_write, event_json

IDLE_S = 5.0  # a pending payment untouched for so long has lost its process


@dataclass(frozen=True)
class Order:
    """What a client asks for, under its idempotency key. ``kind``: topup, or invoice (then with its id)."""

    key: str
    fingerprint: str
    subscriber: int
    amount_minor: int
    kind: str = "topup"
    invoice_id: UUID | None = None


@dataclass(frozen=True)
class Payment:
    id: UUID
    key: str
    subscriber: int
    amount_minor: int
    kind: str = "topup"
    invoice_id: UUID | None = None


@dataclass(frozen=True)
class Known:
    """What is stored under an idempotency key. ``status`` and ``body``: the answer, once there is one."""

    payment: Payment
    fingerprint: str
    state: str
    idle_s: float
    status: int | None
    body: dict[str, Any] | None


@dataclass(frozen=True)
class Attempt:
    psp: str
    state: str


_OPEN = f"""
with gate as materialized (select public.admit('money') as epoch),
     k as (insert into idempotency_key (key, fingerprint, payment_id) select $1, $2, $3::uuid from gate
           on conflict do nothing returning key),
     p as (insert into payment (id, key, subscriber, amount_minor, kind, invoice_id, state, epoch,
                                next_inquiry_at)
           select $3::uuid, key, $4::bigint, $5::bigint, $7::text, $8::uuid, 'pending', epoch,
                  clock_timestamp() + interval '{IDLE_S} s' from k, gate),
     a as (insert into psp_attempt (payment_id, psp, state, epoch)
           select $3::uuid, $6::text, 'open', epoch from k, gate)
select count(*) from k"""

# The columns that ``payment_of`` reads; the table is ``p``.
PAYMENT = "p.id, p.key, p.subscriber, p.amount_minor, p.kind, p.invoice_id"
_KNOWN = f"""
select {PAYMENT}, p.state, k.fingerprint, k.status, k.body,
       extract(epoch from clock_timestamp() - p.updated_at)::float8 as idle_s
from idempotency_key k join payment p on p.id = k.payment_id where k.key = $1"""

_SETTLE = """
with p as (update payment set state = 'settled', psp = $2::text, updated_at = clock_timestamp(),
                  finished_at = clock_timestamp()
           where id = $1 and state in ('pending', 'unknown') returning id, key),
     a as (update psp_attempt set state = 'captured', updated_at = clock_timestamp()
           from p where payment_id = p.id and psp_attempt.psp = $2),
     k as (update idempotency_key set status = 201, body = $3::jsonb from p
           where idempotency_key.key = p.key),
     o as (insert into outbox (event_id, subject, payload)
           select $4::uuid, 'payment.settled', $5::jsonb from p)
select count(*) from p"""

_FAIL = """
with p as (update payment set state = 'failed', failure = $2, updated_at = clock_timestamp(),
                  finished_at = clock_timestamp()
           where id = $1 and state in ('pending', 'unknown') returning id, key),
     a as (update psp_attempt set state = $3, updated_at = clock_timestamp()
           from p where payment_id = p.id and psp_attempt.state in ('open', 'unknown')),
     k as (update idempotency_key set status = 402, body = $4::jsonb from p
           where idempotency_key.key = p.key),
     o as (insert into outbox (event_id, subject, payload)
           select $5::uuid, 'payment.failed', $6::jsonb from p)
select count(*) from p"""

_DOUBT = """
with p as (update payment set state = 'unknown', updated_at = clock_timestamp(),
                  next_inquiry_at = clock_timestamp()
           where id = $1 and state = 'pending' returning id)
update psp_attempt set state = 'unknown', updated_at = clock_timestamp()
from p where payment_id = p.id and psp_attempt.state = 'open'"""

_VOIDED = """
update psp_attempt set state = 'void', updated_at = clock_timestamp()
where payment_id = $1 and psp = $2 and state in ('open', 'unknown')"""

_FAIL_OVER = f"""
with gate as materialized (select public.admit('money') as epoch),
     p as (update payment set updated_at = clock_timestamp(),
                  next_inquiry_at = clock_timestamp() + interval '{IDLE_S} s' from gate
           where id = $1 and state in ('pending', 'unknown') returning id, gate.epoch),
     v as (update psp_attempt set state = 'void', updated_at = clock_timestamp()
           from p where payment_id = p.id and psp = $2 and psp_attempt.state in ('open', 'unknown')),
     a as (insert into psp_attempt (payment_id, psp, state, epoch) select id, $3::text, 'open', epoch from p
           on conflict do nothing)
select count(*) from p"""

# In doubt: what this process, or another, has let go of; and what a dead incarnation left behind. Each is
# a matter of the PSP that has not said yet what it holds (of any, where all have). Those asked about least
# come first: what cannot be resolved keeps nothing from its first inquiry. The pauses grow to 2 s.
_IN_DOUBT = f"""
with due as (
  select id from payment p
  where state in ('pending', 'unknown') and next_inquiry_at <= clock_timestamp()
    and coalesce((select a.psp from psp_attempt a where a.payment_id = p.id and a.state in ('open', 'unknown')
                  order by a.id limit 1), $1) = $1
  order by inquiries, next_inquiry_at limit $2 for update skip locked)
update payment p set inquiries = p.inquiries + 1,
       next_inquiry_at = clock_timestamp() + (1 - random() / 2) * interval '0.5 s' * 2 ^ least(p.inquiries, 2)
from due where p.id = due.id returning {PAYMENT}"""


_FIND = f"select {PAYMENT}, p.state from payment p where p.id = $1"


class PaymentStore:
    """The payments that a PSP is asked for. Other channels have stores of their own."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    async def open(self, payment: Payment, fingerprint: str, psp: str) -> bool:
        """Store key, intent and attempt. False when the key is taken by another payment. Asks the gate."""
        created = await self._database.fetchval(
            _OPEN,
            payment.key,
            fingerprint,
            payment.id,
            payment.subscriber,
            payment.amount_minor,
            psp,
            payment.kind,
            payment.invoice_id,
            attempts=2,
        )
        if created:
            return True
        # It may be our own, stored by a try whose answer was lost.
        with after_a_write():
            known = await self.known(payment.key)
        return known is not None and known.payment.id == payment.id

    async def known(self, key: str) -> Known | None:
        row = await self._database.fetchrow(_KNOWN, key, attempts=2)
        if row is None:
            return None
        body = None if row["body"] is None else json.loads(row["body"])
        return Known(payment_of(row), row["fingerprint"], row["state"], row["idle_s"], row["status"], body)

    async def find(self, payment_id: UUID) -> tuple[Payment, str] | None:
        """A payment and its state."""
        row = await self._database.fetchrow(_FIND, payment_id, attempts=2)
        return None if row is None else (payment_of(row), row["state"])

    async def settle(self, payment: Payment, psp: str, answer: dict[str, Any]) -> bool:
        """Payment, stored answer and event. False when the payment was finished already."""
        event_id = uuid5(payment.id, "settled")
        done = await self._database.fetchval(
            _SETTLE,
            payment.id,
            psp,
            json.dumps(answer),
            event_id,
            event_json(event_id, event_fields(payment, psp)),
            attempts=3,
        )
        self._outbox.wake()
        return bool(done)

    async def fail(
        self, payment: Payment, psp: str, attempt: str, failure: str, answer: dict[str, Any]
    ) -> bool:
        """Nothing was captured. ``attempt``: what becomes of attempts not yet ended, declined or void."""
        event_id = uuid5(payment.id, "failed")
        done = await self._database.fetchval(
            _FAIL,
            payment.id,
            failure,
            attempt,
            json.dumps(answer),
            event_id,
            event_json(event_id, event_fields(payment, psp)),
            attempts=3,
        )
        self._outbox.wake()
        return bool(done)

    async def doubt(self, payment: Payment) -> None:
        await self._database.execute(_DOUBT, payment.id, attempts=2)

    async def voided(self, payment: Payment, psp: str) -> None:
        await self._database.execute(_VOIDED, payment.id, psp, attempts=2)

    async def fail_over(self, payment: Payment, void_at: str, then_at: str) -> bool:
        """One attempt is void, the next one opened. False when the payment is finished. Asks the gate."""
        return bool(await self._database.fetchval(_FAIL_OVER, payment.id, void_at, then_at, attempts=2))

    async def in_doubt(self, psp: str, limit: int) -> list[Payment]:
        """Payments that this PSP must be asked about now, each for one inquiry."""
        return [payment_of(row) for row in await self._database.fetch(_IN_DOUBT, psp, limit)]

    async def attempts(self, payment: Payment) -> Sequence[Attempt]:
        rows = await self._database.fetch(
            "select psp, state from psp_attempt where payment_id = $1 order by id", payment.id
        )
        return [Attempt(row["psp"], row["state"]) for row in rows]


def event_fields(payment: Payment, psp: str) -> dict[str, Any]:
    """Of ``payment.settled`` and ``payment.failed``. ``psp`` is the channel."""
    return {
        "payment_id": str(payment.id),
        "key": payment.key,
        "subscriber": payment.subscriber,
        "amount_minor": payment.amount_minor,
        "psp": psp,
        "kind": payment.kind,
        "invoice_id": None if payment.invoice_id is None else str(payment.invoice_id),
    }


def payment_of(row: Record) -> Payment:
    return Payment(
        row["id"], row["key"], row["subscriber"], row["amount_minor"], row["kind"], row["invoice_id"]
    )
