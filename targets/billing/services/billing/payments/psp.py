"""Talking to a payment service provider, and knowing what its silence means.

The provider's idempotency key is the payment's id, so a charge may be repeated, and voided if it was
never captured. A breaker keeps new payments away from a provider that has stopped answering.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from billing.common import Answer, CallFailed, HttpClient, Log, Service
from billing.common.idempotency import HEADER
from billing.payments.store import Payment

PROBE_EVERY_S = 0.5
FAILURES_TO_OPEN = 5


class Outcome(Enum):
    CAPTURED = "captured"
    DECLINED = "declined"
    VOID = "void"  # and it will stay so: a later charge under the key is refused
    ABSENT = "absent"  # no try ever left this machine
    UNKNOWN = "unknown"


def psp_key(payment: Payment) -> str:
    """The key a provider knows this payment by, in every try and every inquiry."""
    return str(payment.id)


class Psp:
    """One provider. ``name`` as in ledger accounts: psp_a, psp_b."""

    def __init__(
        self,
        name: str,
        charges: HttpClient,
        inquiries: HttpClient,
        refunds: HttpClient,
        probes: HttpClient,
        log: Log,
    ) -> None:
        self.name = name
        self._charges = charges
        self._inquiries = inquiries
        self._refunds = refunds
        self._probes = probes
        self._log = log
        self._failures = 0

    @classmethod
    def of(cls, service: Service, name: str) -> Psp:
        """Each kind of call is counted apart: ``psp_a.attempts`` are the charges' tries."""
        setting = name.upper()
        psp = cls(
            name,
            service.client(name, setting, timeout_s=1.0, attempts=3),
            service.client(f"{name}.inquiry", setting, timeout_s=3.0, attempts=1),
            service.client(f"{name}.refund", setting, timeout_s=1.5, attempts=1),
            service.client(f"{name}.probe", setting, timeout_s=0.5, attempts=1),
            service.log,
        )
        service.metrics.gauge(f"{name}.available", lambda: psp.available)
        return psp

    @property
    def available(self) -> bool:
        """Whether a new payment should go here."""
        return self._failures < FAILURES_TO_OPEN

    async def charge(self, payment: Payment) -> Outcome:
        order = {
            "payment_id": str(payment.id),
            "merchant_reference": payment.key,
            "subscriber": payment.subscriber,
            "amount_minor": payment.amount_minor,
        }
        try:
            answer = await self._charges.call(
                "POST", "/charges", body=order, headers={HEADER: psp_key(payment)}
            )
        except CallFailed as error:
            self._silent()
            return Outcome.UNKNOWN if error.may_have_arrived else Outcome.ABSENT
        outcome = charge_outcome(answer)
        if outcome is Outcome.UNKNOWN:
            self._silent()
        else:
            self._failures = 0
        return outcome

    async def void_unless_captured(self, payment: Payment, *, timeout_s: float = 3.0) -> Outcome:
        """CAPTURED or VOID, for good; UNKNOWN when the provider did not say."""
        try:
            answer = await self._inquiries.call(
                "POST", f"/charges/{psp_key(payment)}/void", timeout_s=timeout_s
            )
        except CallFailed:
            return Outcome.UNKNOWN
        said = answer.body.get("status") if answer.status == 200 and isinstance(answer.body, dict) else None
        return {"captured": Outcome.CAPTURED, "voided": Outcome.VOID}.get(str(said), Outcome.UNKNOWN)

    async def refund(self, payment: Payment) -> bool:
        """Give a captured amount back, once however often it is asked. False: not known to be done."""
        try:
            answer = await self._refunds.call("POST", f"/charges/{psp_key(payment)}/refund")
        except CallFailed:
            return False
        said = answer.body if answer.status == 200 and isinstance(answer.body, dict) else {}
        if answer.status == 409:
            self._log("psp.refund_refused", psp=self.name, payment_id=payment.id)
        return said.get("status") == "refunded" and said.get("amount_minor") == payment.amount_minor

    def _silent(self) -> None:
        self._failures += 1
        if self._failures == FAILURES_TO_OPEN:
            self._log("psp.avoided", psp=self.name)

    async def watch(self) -> None:
        """While the provider is avoided, ask whether it is back."""
        while True:
            await asyncio.sleep(PROBE_EVERY_S)
            if self.available:
                continue
            try:
                alive = (await self._probes.call("GET", "/live")).status == 200
            except CallFailed:
                continue
            if alive:
                self._failures = 0
                self._log("psp.back", psp=self.name)


def charge_outcome(answer: Answer) -> Outcome:
    """What an answer to a charge proves. The key is the same in each try, so the last answer counts."""
    match answer.status:
        case 201:
            return Outcome.CAPTURED
        case 402:
            return Outcome.DECLINED
        case 409:
            return Outcome.VOID
        case _:
            return Outcome.UNKNOWN
