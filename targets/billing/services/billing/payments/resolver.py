"""Bringing payments in doubt to an end, by inquiry; never by a refund, never by guessing.

At start and ever after: payments left unknown, and pending ones that nobody has touched for a while,
which a dead incarnation left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from uuid import UUID

from billing.common import Log, Metrics, backoff_s
from billing.payments.cashier import IDLE_S, Cashier
from billing.payments.psp import Outcome, Psp
from billing.payments.store import Payment, PaymentStore

EVERY_S = 0.5
BATCH = 500
CONCURRENT = 8


class Resolver:
    """Asks each provider that may hold a payment's money to void it unless it was captured."""

    def __init__(
        self,
        store: PaymentStore,
        cashier: Cashier,
        psps: Mapping[str, Psp],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._store = store
        self._cashier = cashier
        self._psps = psps
        self._metrics = metrics
        self._log = log
        self._tries: dict[UUID, tuple[int, float]] = {}  # inquiries made, monotonic time of the next
        self._places = asyncio.Semaphore(CONCURRENT)

    async def run(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> None:
        """One inquiry for each payment in doubt whose turn has come."""
        doubtful = await self._store.in_doubt(idle_s=IDLE_S, limit=BATCH)
        self._tries = {p.id: self._tries[p.id] for p in doubtful if p.id in self._tries}
        now = time.monotonic()
        due = [
            payment
            for payment in doubtful
            if payment.id not in self._cashier.in_flight and self._tries.get(payment.id, (0, 0))[1] <= now
        ]
        await asyncio.gather(*(self._attend(payment) for payment in due))

    async def _attend(self, payment: Payment) -> None:
        async with self._places:
            if await self.resolve(payment):
                self._tries.pop(payment.id, None)
                return
        count = self._tries.get(payment.id, (0, 0))[0] + 1
        pause_s = 0.25 + backoff_s(count, base_s=0.25, cap_s=2.0)
        self._tries[payment.id] = (count, time.monotonic() + pause_s)

    async def resolve(self, payment: Payment) -> bool:
        """Settle or fail a payment by what its providers say. False when one of them does not say."""
        last = ""
        for attempt in await self._store.attempts(payment):
            last = attempt.psp
            if attempt.state not in ("open", "unknown"):
                continue
            match await self._psps[attempt.psp].void_unless_captured(payment):
                case Outcome.CAPTURED:
                    await self._cashier.conclude_settled(payment, attempt.psp)
                    self._report(payment, "settled")
                    return True
                case Outcome.VOID:
                    await self._store.voided(payment, attempt.psp)
                case _:
                    return False
        await self._cashier.conclude_failed(payment, last, "void", "not captured by any provider")
        self._report(payment, "failed")
        return True

    def _report(self, payment: Payment, state: str) -> None:
        self._metrics.add("payments.resolved")
        self._log("payment.resolved", payment_id=payment.id, state=state)
