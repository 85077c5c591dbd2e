"""The HTTP side of payments, and its start."""

from __future__ import annotations

import json
from uuid import UUID

from aiohttp import web

from billing.common import Limits, Problem, Service, fingerprint, json_object, require_key, whole_number
from billing.payments.cashier import Cashier, Conclusion
from billing.payments.psp import Psp
from billing.payments.reconciliation import reconciliation
from billing.payments.resolver import Resolver
from billing.payments.store import Order, PaymentStore

PSPS = ("psp_a", "psp_b")  # in order of preference


class Payments:
    """Routes of the service."""

    def __init__(self, store: PaymentStore, cashier: Cashier) -> None:
        self._store = store
        self._cashier = cashier

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/topups", self.top_up), web.get("/payments/{id}", self.payment)]

    async def top_up(self, request: web.Request) -> web.Response:
        key = require_key(request)
        body = await json_object(request)
        payload = {
            "subscriber": whole_number(body, "subscriber", at_least=1),
            "amount_minor": whole_number(body, "amount_minor", at_least=1),
        }
        order = Order(key, fingerprint("topup", payload), **payload)

        def still_waiting() -> bool:
            return request.transport is not None and not request.transport.is_closing()

        return _response(await self._cashier.take(order, still_waiting))

    async def payment(self, request: web.Request) -> web.Response:
        try:
            payment_id = UUID(request.match_info["id"])
        except ValueError:
            raise Problem(404, "no such payment", "a payment's id is a UUID") from None
        found = await self._store.find(payment_id)
        if found is None:
            raise Problem(404, "no such payment", str(payment_id))
        payment, state = found
        answer = {"payment_id": str(payment.id), "status": state, "amount_minor": payment.amount_minor}
        return web.json_response(answer)


def _response(conclusion: Conclusion) -> web.Response:
    kind = "application/json" if conclusion.status < 400 else "application/problem+json"
    return web.Response(text=json.dumps(conclusion.body), status=conclusion.status, content_type=kind)


def main() -> None:
    service = Service("payments", limits=Limits(size=16))
    psps = [Psp.of(service, name) for name in PSPS]
    store = PaymentStore(service.database, service.outbox)
    cashier = Cashier(store, psps, service.metrics, service.log)
    by_name = {psp.name: psp for psp in psps}
    resolver = Resolver(store, cashier, by_name, service.metrics, service.log)
    service.app.add_routes(Payments(store, cashier).routes())
    for psp in psps:
        service.background(f"watch {psp.name}", psp.watch)
    service.background("resolver", resolver.run)
    service.background("reconciliation", reconciliation(service, PSPS).run)
    service.run()
