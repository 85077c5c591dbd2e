"""The HTTP side of payments, and its start."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web

from billing.common import (
    Limits,
    Problem,
    Service,
    fingerprint,
    json_object,
    require_key,
    text_field,
    whole_number,
)
from billing.payments.agents import Agents, receipts_of
from billing.payments.callbacks import Callbacks
from billing.payments.cashier import Cashier, Conclusion
from billing.payments.psp import Psp
from billing.payments.reconciliation import reconciliation
from billing.payments.refunds import Refunds, RefundStore
from billing.payments.resolver import Resolver
from billing.payments.store import Order, Payment, PaymentStore
from billing.payments.vouchers import Vouchers

PSPS = ("psp_a", "psp_b")  # in order of preference


class Payments:
    """Routes of the service: one for each channel, and for what became of a payment."""

    def __init__(
        self,
        store: PaymentStore,
        cashier: Cashier,
        vouchers: Vouchers,
        agents: Agents,
        refunds: Refunds,
        callbacks: Callbacks,
    ) -> None:
        self._store = store
        self._cashier = cashier
        self._vouchers = vouchers
        self._agents = agents
        self._refunds = refunds
        self._callbacks = callbacks

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/topups", self.top_up),
            web.post("/invoices/{id}/payments", self.pay_invoice),
            web.post("/vouchers/redeem", self.redeem),
            web.post("/agents/{agent}/receipts", self.hand_in),
            web.get("/payments/{id}", self.payment),
            web.post("/payments/{id}/refunds", self.refund),
            web.get("/payments/{id}/refunds", self.refund_state),
            web.post("/psp/callback", self._callbacks.hear),
        ]

    async def top_up(self, request: web.Request) -> web.Response:
        key = require_key(request)
        payload = _who_pays_what(await json_object(request))
        order = Order(key, fingerprint("topup", payload), **payload)
        return _response(await self._cashier.take(order, _waiting(request)))

    async def pay_invoice(self, request: web.Request) -> web.Response:
        """Whether there is such an invoice is invoicing's to say; the money is the subscriber's."""
        key = require_key(request)
        invoice_id = _uuid(request, "invoice")
        payload = _who_pays_what(await json_object(request))
        named = {**payload, "invoice_id": str(invoice_id)}
        order = Order(key, fingerprint("invoice", named), **payload, kind="invoice", invoice_id=invoice_id)
        return _response(await self._cashier.take(order, _waiting(request)))

    async def redeem(self, request: web.Request) -> web.Response:
        key = require_key(request)
        body = await json_object(request)
        subscriber, code = whole_number(body, "subscriber", at_least=1), text_field(body, "code")
        return _response(await self._vouchers.redeem(key, subscriber, code))

    async def hand_in(self, request: web.Request) -> web.Response:
        agent = text_field(dict(request.match_info), "agent")
        receipts = receipts_of(await json_object(request))
        return web.json_response(await self._agents.store(agent, receipts))

    async def payment(self, request: web.Request) -> web.Response:
        payment, state = await self._found(request)
        answer = {"payment_id": str(payment.id), "status": state, "amount_minor": payment.amount_minor}
        return web.json_response(answer)

    async def refund(self, request: web.Request) -> web.Response:
        key = require_key(request)
        return _response(await self._refunds.refund(_uuid(request, "payment"), key))

    async def refund_state(self, request: web.Request) -> web.Response:
        payment, _ = await self._found(request)
        known = await self._refunds.of(payment.id)
        if known is None:
            return web.json_response({"status": "none"})
        return web.json_response({"status": known.state, "amount_minor": payment.amount_minor})

    async def _found(self, request: web.Request) -> tuple[Payment, str]:
        """The payment that the path names, and its state; or Problem 404."""
        payment_id = _uuid(request, "payment")
        found = await self._store.find(payment_id)
        if found is None:
            raise Problem(404, "no such payment", str(payment_id))
        return found


def _who_pays_what(body: dict[str, Any]) -> dict[str, int]:
    return {
        "subscriber": whole_number(body, "subscriber", at_least=1),
        "amount_minor": whole_number(body, "amount_minor", at_least=1),
    }


def _waiting(request: web.Request) -> Callable[[], bool]:
    """Whether the client is still there, each time it is asked."""
    return lambda: request.transport is not None and not request.transport.is_closing()


def _uuid(request: web.Request, what: str) -> UUID:
    """The id in the path, or Problem 404."""
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise Problem(404, f"no such {what}", f"the id of each {what} is a UUID") from None


def _response(conclusion: Conclusion) -> web.Response:
    kind = "application/json" if conclusion.status < 400 else "application/problem+json"
    return web.Response(text=json.dumps(conclusion.body), status=conclusion.status, content_type=kind)


def main() -> None:
    service = Service("payments", limits=Limits(size=16))
    database, outbox, metrics, log = service.database, service.outbox, service.metrics, service.log
    psps = [Psp.of(service, name) for name in PSPS]
    by_name = {psp.name: psp for psp in psps}
    store = PaymentStore(database, outbox)
    cashier = Cashier(store, psps, metrics, log)
    resolver = Resolver(store, cashier, by_name, metrics, log)
    refunds = Refunds(RefundStore(database, outbox, PSPS), by_name, metrics, log)
    callbacks = Callbacks(
        database, store, cashier, refunds, service.settings.text("CALLBACK_KEY"), metrics, log
    )
    vouchers = Vouchers(store, database, outbox, metrics)
    agents = Agents(database, outbox, metrics)
    service.app.add_routes(Payments(store, cashier, vouchers, agents, refunds, callbacks).routes())
    for psp in psps:
        service.background(f"watch {psp.name}", psp.watch)
        service.background(f"resolver {psp.name}", partial(resolver.run, psp.name))
        service.background(f"refunds {psp.name}", partial(refunds.run, psp.name))
    service.background("call-backs", callbacks.run)
    service.background("reconciliation", reconciliation(service, PSPS).run)
    service.run()
