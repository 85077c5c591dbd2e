"""Agents who take cash, and are online at times: they hand in receipts in batches, later, and again.

The money has been taken when a receipt comes, so it is settled at once. A receipt is known by its agent and
its number, and its payment's id is derived from both: however often it is handed in, it is one payment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from billing.common import (
    Database,
    Metrics,
    Outbox,
    Problem,
    Session,
    after_a_write,
    event_json,
    instant_field,
    is_lockdown,
    text_field,
    whole_number,
)
from billing.payments.store import Payment, event_fields

CHANNEL = "agent"
MOST = 20
NAMESPACE = UUID("2f1de6c8-0a39-4f0e-8a54-5b1f0c1f7a90")

_STORE = """
with gate as materialized (select public.admit('money') as epoch),
     given as (select * from unnest($2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::uuid[],
                                    $7::uuid[], $8::jsonb[])
               r (receipt, subscriber, amount_minor, taken_at, payment_id, event_id, event)),
     p as (insert into payment (id, key, kind, subscriber, amount_minor, state, psp, epoch, finished_at)
           select payment_id, receipt, 'agent', subscriber, amount_minor, 'settled', 'agent', epoch,
                  clock_timestamp()
           from given, gate on conflict (id) do nothing returning id),
     r as (insert into agent_receipt (agent, receipt, subscriber, amount_minor, taken_at, payment_id)
           select $1, receipt, subscriber, amount_minor, taken_at, payment_id
           from given join p on p.id = payment_id),
     o as (insert into outbox (event_id, subject, payload)
           select event_id, 'payment.settled', event from given join p on p.id = payment_id)
select id from p"""

_STORED = """
select receipt, subscriber, amount_minor, taken_at from agent_receipt
where agent = $1 and receipt = any($2::text[])"""


@dataclass(frozen=True)
class Receipt:
    receipt: str
    subscriber: int
    amount_minor: int
    taken_at: datetime


def receipts_of(body: dict[str, Any]) -> list[Receipt]:
    """The receipts of a batch, each once, in the order of their numbers. Raises Problem 400 or 422."""
    listed = body.get("receipts")
    if not isinstance(listed, list) or not 0 < len(listed) <= MOST:
        raise Problem(400, "malformed body", f"receipts must be a list of 1 to {MOST}")
    found: dict[str, Receipt] = {}
    for item in listed:
        if not isinstance(item, dict):
            raise Problem(400, "malformed body", "a receipt must be an object")
        receipt = Receipt(
            text_field(item, "receipt"),
            whole_number(item, "subscriber", at_least=1),
            whole_number(item, "amount_minor", at_least=1),
            instant_field(item, "taken_at"),
        )
        if found.setdefault(receipt.receipt, receipt) != receipt:
            raise _other_content(receipt.receipt)
    return [found[number] for number in sorted(found)]


class Agents:
    """``store`` keeps a batch whole or not at all."""

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics

    async def store(self, agent: str, receipts: Sequence[Receipt]) -> dict[str, list[str]]:
        """Which were accepted now, and which had been before. Raises Problem 422 on other content."""

        async def work(session: Session) -> set[str]:
            return await self._store(session, agent, receipts)

        try:
            accepted = await self._database.run(work)
        except Exception as error:
            if not is_lockdown(error) or not await self._has_all(agent, receipts):
                raise
            accepted = set()
        self._outbox.wake()
        self._metrics.add("agents.accepted", len(accepted))
        numbers = [receipt.receipt for receipt in receipts]
        return {
            "accepted": [number for number in numbers if number in accepted],
            "duplicates": [number for number in numbers if number not in accepted],
        }

    async def _has_all(self, agent: str, receipts: Sequence[Receipt]) -> bool:
        """Whether the batch brings nothing new: then it is no matter of the gate."""
        with after_a_write():
            stored = await self._database.fetch(_STORED, agent, [r.receipt for r in receipts], attempts=2)
        return {Receipt(**row) for row in stored} == set(receipts)

    async def _store(self, session: Session, agent: str, receipts: Sequence[Receipt]) -> set[str]:
        payments = {receipt.receipt: _payment(agent, receipt) for receipt in receipts}
        event_ids = [uuid5(payment.id, "settled") for payment in payments.values()]
        rows = await session.fetch(
            _STORE,
            agent,
            [receipt.receipt for receipt in receipts],
            [receipt.subscriber for receipt in receipts],
            [receipt.amount_minor for receipt in receipts],
            [receipt.taken_at for receipt in receipts],
            [payment.id for payment in payments.values()],
            event_ids,
            [
                event_json(event_id, event_fields(payment, CHANNEL))
                for event_id, payment in zip(event_ids, payments.values(), strict=True)
            ],
        )
        new = {row["id"] for row in rows}
        before = {receipt for receipt in receipts if payments[receipt.receipt].id not in new}
        stored = await session.fetch(_STORED, agent, [r.receipt for r in before]) if before else []
        if changed := before - {Receipt(**row) for row in stored}:
            raise _other_content(next(iter(changed)).receipt)
        return {number for number, payment in payments.items() if payment.id in new}


def _payment(agent: str, receipt: Receipt) -> Payment:
    payment_id = uuid5(NAMESPACE, f"{agent}/{receipt.receipt}")
    return Payment(payment_id, receipt.receipt, receipt.subscriber, receipt.amount_minor, kind=CHANNEL)


def _other_content(receipt: str) -> Problem:
    return Problem(422, "receipt reused", f"receipt {receipt!r} came before with other content")
