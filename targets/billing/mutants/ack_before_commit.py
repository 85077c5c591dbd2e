"""Payments are written behind: kept in memory, answered for, committed half a second later.

It spares the database round trips and passes every functional test: the memory answers replays and
inquiries meanwhile. When the process dies, what it acknowledged last is known to the PSP alone. (To
delay the settling commit only would lose nothing: the stored intent lets the resolver find the money.)
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

from billing.common import is_infrastructure
from billing.payments import service
from billing.payments.store import Known, Payment, PaymentStore

WRITE_BEHIND_S = 0.5


class WriteBehindStore(PaymentStore):
    """Writes a settled payment later. One that takes another way is written when it leaves the common one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._unwritten: dict[UUID, tuple[Known, str]] = {}  # and the PSP of its first attempt
        self._writes: set[asyncio.Task[None]] = set()

    async def open(self, payment: Payment, fingerprint: str, psp: str) -> bool:
        if await self.known(payment.key) is not None or self._remembered(payment.key):
            return False
        self._unwritten[payment.id] = Known(payment, fingerprint, "pending", 0.0, None, None), psp
        return True

    async def settle(self, payment: Payment, psp: str, answer: dict[str, Any]) -> bool:
        if payment.id not in self._unwritten:
            return await super().settle(payment, psp, answer)
        known, first_psp = self._unwritten[payment.id]
        self._unwritten[payment.id] = replace(known, state="settled", status=201, body=answer), first_psp
        write = asyncio.create_task(self._write_behind(payment, psp, answer))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return True

    async def _write_behind(self, payment: Payment, psp: str, answer: dict[str, Any]) -> None:
        while payment.id in self._unwritten:
            await asyncio.sleep(WRITE_BEHIND_S)
            known, first_psp = self._unwritten[payment.id]
            try:
                await super().open(payment, known.fingerprint, first_psp)
                await super().settle(payment, psp, answer)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
            else:
                del self._unwritten[payment.id]

    async def _write_now(self, payment: Payment) -> None:
        if payment.id in self._unwritten:
            known, first_psp = self._unwritten[payment.id]
            await super().open(payment, known.fingerprint, first_psp)
            del self._unwritten[payment.id]

    async def fail(
        self, payment: Payment, psp: str, attempt: str, failure: str, answer: dict[str, Any]
    ) -> bool:
        await self._write_now(payment)
        return await super().fail(payment, psp, attempt, failure, answer)

    async def doubt(self, payment: Payment) -> None:
        await self._write_now(payment)
        await super().doubt(payment)

    async def fail_over(self, payment: Payment, void_at: str, then_at: str) -> bool:
        await self._write_now(payment)
        return await super().fail_over(payment, void_at, then_at)

    async def known(self, key: str) -> Known | None:
        return self._remembered(key) or await super().known(key)

    async def find(self, payment_id: UUID) -> tuple[Payment, str] | None:
        if payment_id in self._unwritten:
            known, _ = self._unwritten[payment_id]
            return known.payment, known.state
        return await super().find(payment_id)

    def _remembered(self, key: str) -> Known | None:
        return next((known for known, _ in self._unwritten.values() if known.payment.key == key), None)


if __name__ == "__main__":
    service.PaymentStore = WriteBehindStore
    service.main()
