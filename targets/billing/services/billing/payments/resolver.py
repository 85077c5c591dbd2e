"""Bringing payments in doubt to an end, by inquiry; never by a refund, never by guessing.

At start and ever after: payments left unknown, and pending ones that nobody has touched for a while,
which a dead incarnation left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from billing.common import Log, Metrics
from billing.payments.cashier import Cashier
from billing.payments.psp import Outcome, Psp
from billing.payments.rounds import until_few
from billing.payments.store import Payment, PaymentStore

EVERY_S = 0.5
CONCURRENT = 8  # inquiries at one PSP


class Resolver:
    """Asks each provider that may hold a payment's money to void it unless it was captured.

    ``run`` is the worker of one provider: a silent one keeps no other waiting.
    """

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

    async def run(self, psp: str) -> None:
        while True:
            await self.sweep(psp)
            await asyncio.sleep(EVERY_S)

    async def sweep(self, psp: str) -> None:
        """One inquiry for each payment in doubt at this provider whose turn has come."""
        await until_few(partial(self._store.in_doubt, psp, CONCURRENT), self._attend, CONCURRENT)

    async def _attend(self, payment: Payment) -> None:
        if payment.id not in self._cashier.in_flight:
            await self.resolve(payment)

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
