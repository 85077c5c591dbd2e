"""The flow of one payment while its client waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from billing.common import (
    Log,
    Metrics,
    after_a_write,
    is_lockdown,
    key_in_progress,
    key_reused,
    refused,
)
from billing.common.database import CommitInDoubt, is_infrastructure
from billing.payments.psp import Outcome, Psp
from billing.payments.store import IDLE_S, Known, Order, Payment, PaymentStore

VOID_WAIT_S = 1.0


@dataclass(frozen=True)
class Conclusion:
    """An answer: HTTP status and body."""

    status: int
    body: dict[str, Any]


def may_fail_over(outcome: Outcome) -> bool:
    """The other provider may be tried only when this one is proved to hold nothing."""
    return outcome in (Outcome.VOID, Outcome.ABSENT)


class Cashier:
    """``in_flight``: ids of the payments whose clients wait; the resolver leaves those alone."""

    def __init__(self, store: PaymentStore, psps: Sequence[Psp], metrics: Metrics, log: Log) -> None:
        self.in_flight: set[object] = set()
        self._store = store
        self._psps = psps
        self._metrics = metrics
        self._log = log

    async def take(self, order: Order, still_waiting: Callable[[], bool]) -> Conclusion:
        """Take a payment, or answer what became of the one that has this key. Raises Problem."""
        psp = next((psp for psp in self._psps if psp.available), None)
        if psp is None:
            return await self._refuse_if_new(order, refused("no payment provider", "none answers at present"))
        payment = Payment(
            uuid4(), order.key, order.subscriber, order.amount_minor, order.kind, order.invoice_id
        )
        self.in_flight.add(payment.id)
        try:
            try:
                opened = await self._store.open(payment, order.fingerprint, psp.name)
            except Exception as error:
                if not is_lockdown(error):
                    raise
                with after_a_write():
                    return await self._refuse_if_new(order, error)
            if not opened:
                with after_a_write():
                    return await self._replay(order)
            self._metrics.add("payments.opened")
            return await self._collect(payment, psp, still_waiting)
        finally:
            self.in_flight.discard(payment.id)

    async def _collect(self, payment: Payment, psp: Psp, still_waiting: Callable[[], bool]) -> Conclusion:
        """Charge the stored payment; from here on an error of the database is no reason to say no."""
        try:
            outcome = await psp.charge(payment)
            if outcome is Outcome.UNKNOWN:
                outcome = await psp.void_unless_captured(payment, timeout_s=VOID_WAIT_S)
            other = self._other(psp)
            if may_fail_over(outcome) and other is not None and still_waiting():
                return await self._fail_over(payment, psp, other)
            return await self._conclude(payment, psp, outcome)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self._log("payment.interrupted", payment_id=payment.id, error=error)
            return pending(payment)

    async def _fail_over(self, payment: Payment, psp: Psp, other: Psp) -> Conclusion:
        """The first provider holds nothing, for good: try the other, unless a lockdown has come since."""
        try:
            opened = await self._store.fail_over(payment, psp.name, other.name)
        except Exception as error:
            if not is_lockdown(error):
                raise
            self._metrics.add("payments.suspended")
            return await self.conclude_failed(payment, psp.name, "void", "payments are suspended")
        if not opened:
            return await self._present(payment)
        self._metrics.add("payments.failed_over")
        return await self._conclude(payment, other, await other.charge(payment))

    async def _conclude(self, payment: Payment, psp: Psp, outcome: Outcome) -> Conclusion:
        match outcome:
            case Outcome.CAPTURED:
                return await self.conclude_settled(payment, psp.name)
            case Outcome.DECLINED:
                return await self.conclude_failed(payment, psp.name, "declined", "declined by the provider")
            case Outcome.VOID | Outcome.ABSENT:
                return await self.conclude_failed(payment, psp.name, "void", "no provider could be reached")
            case Outcome.UNKNOWN:
                await self._store.doubt(payment)
                self._metrics.add("payments.unknown")
                return pending(payment)

    async def conclude_settled(self, payment: Payment, psp: str) -> Conclusion:
        """First the commit, then the answer."""
        conclusion = settled(payment)
        if not await self._store.settle(payment, psp, conclusion.body):
            return await self._present(payment)
        self._metrics.add("payments.settled")
        return conclusion

    async def conclude_failed(self, payment: Payment, psp: str, attempt: str, failure: str) -> Conclusion:
        """Nothing was captured and nothing will be."""
        conclusion = failed(payment, failure)
        if not await self._store.fail(payment, psp, attempt, failure, conclusion.body):
            return await self._present(payment)
        self._metrics.add("payments.failed")
        return conclusion

    async def _present(self, payment: Payment) -> Conclusion:
        """Someone else finished it, or an earlier try of our own whose answer was lost."""
        known = await self._store.known(payment.key)
        return pending(payment) if known is None else stored_answer(known)

    async def _replay(self, order: Order) -> Conclusion:
        """The key came before."""
        known = await self._store.known(order.key)
        if known is None:
            raise CommitInDoubt("the key was taken and is not there: the database has changed over")
        if known.fingerprint != order.fingerprint:
            raise key_reused(order.key)
        self._metrics.add("payments.replayed")
        alive = known.payment.id in self.in_flight or known.idle_s < IDLE_S
        if known.state == "pending" and alive:
            raise key_in_progress(order.key)
        return stored_answer(known)

    async def _refuse_if_new(self, order: Order, refusal: Exception) -> Conclusion:
        """An old key still has its answer; a new payment is refused before it begins."""
        if await self._store.known(order.key) is not None:
            return await self._replay(order)
        self._metrics.add("payments.refused")
        raise refusal

    def _other(self, psp: Psp) -> Psp | None:
        return next((other for other in self._psps if other is not psp and other.available), None)


def stored_answer(known: Known) -> Conclusion:
    if known.status is None or known.body is None:
        return pending(known.payment)
    return Conclusion(known.status, known.body)


def settled(payment: Payment) -> Conclusion:
    return Conclusion(201, _body(payment, "settled"))


def pending(payment: Payment) -> Conclusion:
    return Conclusion(202, _body(payment, "pending"))


def failed(payment: Payment, failure: str) -> Conclusion:
    problem = {"type": "about:blank", "title": "payment failed", "status": 402, "detail": failure}
    return Conclusion(402, problem | {"payment_id": str(payment.id), "amount_minor": payment.amount_minor})


def _body(payment: Payment, status: str) -> dict[str, Any]:
    return {"payment_id": str(payment.id), "status": status, "amount_minor": payment.amount_minor}
