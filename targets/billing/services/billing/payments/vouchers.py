"""Vouchers: prepaid codes, each good for one payment. Neither a PSP nor the broker is needed to take one."""

from __future__ import annotations

import json
from dataclasses import replace
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

_EXISTS = "select exists (select from voucher where code = $1)"

# A key that came before finds its own row; one that comes twice at once fails on it. What the voucher is
# worth is written into payment, answer and event here, and returned.
_REDEEM = """
with gate as materialized (select public.admit('money') as epoch),
     v as (update voucher set redeemed_by = $3::uuid, redeemed_at = clock_timestamp() from gate
           where code = $4 and redeemed_by is null and not exists (select from idempotency_key where key = $1)
           returning gate.epoch, amount_minor, jsonb_build_object('amount_minor', amount_minor) as worth),
     p as (insert into payment (id, key, kind, subscriber, amount_minor, state, psp, epoch, finished_at)
           select $3::uuid, $1, 'voucher', $5::bigint, amount_minor, 'settled', 'voucher', epoch,
                  clock_timestamp() from v),
     k as (insert into idempotency_key (key, fingerprint, payment_id, status, body)
           select $1, $2, $3::uuid, 201, $6::jsonb || worth from v),
     o as (insert into outbox (event_id, subject, payload)
           select $7::uuid, 'payment.settled', $8::jsonb || worth from v)
select amount_minor from v"""


class Vouchers:
    """``redeem`` is one statement: key, voucher, payment, stored answer and event."""

    def __init__(self, store: PaymentStore, database: Database, outbox: Outbox, metrics: Metrics) -> None:
        self._store = store
        self._database = database
        self._outbox = outbox
        self._metrics = metrics

    async def redeem(self, key: str, subscriber: int, code: str) -> Conclusion:
        """Credit a voucher's amount, or answer what this key did before. Raises Problem 422."""
        mark = fingerprint("voucher", {"subscriber": subscriber, "code": code})
        unpriced = Payment(uuid4(), key, subscriber, amount_minor=0, kind=CHANNEL)
        try:
            redeemed = await self._redeem(unpriced, mark, code)
        except asyncpg.UniqueViolationError:
            redeemed = None  # the same key with another voucher, at the same time
        except Exception as error:
            if not is_lockdown(error):
                raise
            with after_a_write():
                return await self._answer_of(key, mark, error)
        if redeemed is not None:
            self._metrics.add("vouchers.redeemed")
            self._outbox.wake()
            return settled(redeemed)
        with after_a_write():
            return await self._answer_of(key, mark, await self._refusal(code))

    async def _redeem(self, payment: Payment, mark: str, code: str) -> Payment | None:
        """The payment, of what the voucher is worth; None where nothing was redeemed."""
        event_id = uuid5(payment.id, "settled")
        amount_minor = await self._database.fetchval(
            _REDEEM,
            payment.key,
            mark,
            payment.id,
            code,
            payment.subscriber,
            json.dumps(settled(payment).body),
            event_id,
            event_json(event_id, event_fields(payment, CHANNEL)),
            attempts=2,
        )
        return None if amount_minor is None else replace(payment, amount_minor=amount_minor)

    async def _refusal(self, code: str) -> Problem:
        known = await self._database.fetchval(_EXISTS, code, attempts=2)
        return Problem(422, "voucher redeemed" if known else "no such voucher", code)

    async def _answer_of(self, key: str, mark: str, otherwise: Exception) -> Conclusion:
        """What the key was answered before; where it is new, ``otherwise`` is raised."""
        known = await self._store.known(key)
        if known is None:
            self._metrics.add("vouchers.refused")
            raise otherwise
        if known.fingerprint != mark:
            raise key_reused(key)
        return stored_answer(known)
