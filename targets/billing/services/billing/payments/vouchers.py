"""Vouchers: prepaid codes, each good for one payment. Neither a PSP nor the broker is needed to take one."""

from __future__ import annotations

import json
from uuid import uuid4, uuid5

import asyncpg

from billing.common import (
    Database,
    Metrics,
    Outbox,
    Problem,
    after_a_write,
    event_json,
    fingerprint,
    is_lockdown,
    key_reused,
)
from billing.payments.cashier import Conclusion, settled, stored_answer
from billing.payments.store import Payment, PaymentStore, event_fields

CHANNEL = "voucher"

_WORTH = "select amount_minor from voucher where code = $1"

# A key that came before finds its own row; one that comes twice at once fails on it.
_REDEEM = """
with gate as materialized (select public.admit('money') as epoch),
     v as (update voucher set redeemed_by = $3::uuid, redeemed_at = clock_timestamp() from gate
           where code = $4 and redeemed_by is null and not exists (select from idempotency_key where key = $1)
           returning gate.epoch),
     p as (insert into payment (id, key, kind, subscriber, amount_minor, state, psp, epoch, finished_at)
           select $3::uuid, $1, 'voucher', $5::bigint, $6::bigint, 'settled', 'voucher', epoch,
                  clock_timestamp() from v),
     k as (insert into idempotency_key (key, fingerprint, payment_id, status, body)
           select $1, $2, $3::uuid, 201, $7::jsonb from v),
     o as (insert into outbox (event_id, subject, payload)
           select $8::uuid, 'payment.settled', $9::jsonb from v)
select count(*) from v"""


class Vouchers:
    """``redeem`` is one transaction: key, voucher, payment, stored answer and event."""

    def __init__(self, store: PaymentStore, database: Database, outbox: Outbox, metrics: Metrics) -> None:
        self._store = store
        self._database = database
        self._outbox = outbox
        self._metrics = metrics

    async def redeem(self, key: str, subscriber: int, code: str) -> Conclusion:
        """Credit a voucher's amount, or answer what this key did before. Raises Problem 422."""
        amount_minor = await self._database.fetchval(_WORTH, code, attempts=2)
        if amount_minor is None:
            raise Problem(422, "no such voucher", code)
        mark = fingerprint("voucher", {"subscriber": subscriber, "code": code})
        payment = Payment(uuid4(), key, subscriber, amount_minor, kind=CHANNEL)
        conclusion = settled(payment)
        try:
            redeemed = await self._redeem(payment, mark, code, conclusion)
        except asyncpg.UniqueViolationError:
            redeemed = False  # the same key with another voucher, at the same time
        except Exception as error:
            if not is_lockdown(error):
                raise
            with after_a_write():
                return await self._answer_of(key, mark, error)
        if redeemed:
            self._metrics.add("vouchers.redeemed")
            self._outbox.wake()
            return conclusion
        with after_a_write():
            return await self._answer_of(key, mark, Problem(422, "voucher redeemed", code))

    async def _redeem(self, payment: Payment, mark: str, code: str, conclusion: Conclusion) -> bool:
        event_id = uuid5(payment.id, "settled")
        done = await self._database.fetchval(
            _REDEEM,
            payment.key,
            mark,
            payment.id,
            code,
            payment.subscriber,
            payment.amount_minor,
            json.dumps(conclusion.body),
            event_id,
            event_json(event_id, event_fields(payment, CHANNEL)),
            attempts=2,
        )
        return bool(done)

    async def _answer_of(self, key: str, mark: str, otherwise: Exception) -> Conclusion:
        """What the key was answered before; where it is new, ``otherwise`` is raised."""
        known = await self._store.known(key)
        if known is None:
            self._metrics.add("vouchers.refused")
            raise otherwise
        if known.fingerprint != mark:
            raise key_reused(key)
        return stored_answer(known)
