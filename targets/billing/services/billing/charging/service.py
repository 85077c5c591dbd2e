"""The HTTP side of charging, and its start."""

from __future__ import annotations

import json
from functools import partial

from aiohttp import web

from billing.charging import events
from billing.charging.balance import Balances, Read, Source, beat
from billing.charging.credit import Debit, Till
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

# A replica's connections are young, so that a standby that has come back is found soon.
REPLICA = Limits(size=8, checkout=0.5, connect=0.5, command=1.0, age=10.0)


class Charging:
    """Routes of the service."""

    def __init__(self, balances: Balances, till: Till) -> None:
        self._balances = balances
        self._till = till

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/accounts/{subscriber}/balance", self.balance),
            web.post("/credit-control", self.credit_control),
        ]

    async def balance(self, request: web.Request) -> web.Response:
        preferred = request.query.get("read", "primary")
        if preferred not in ("primary", "replica"):
            raise Problem(400, "malformed query", f"read must be primary or replica, not {preferred!r}")
        read: Read = "replica" if preferred == "replica" else "primary"
        subscriber = request.match_info["subscriber"]
        if not (subscriber.isascii() and subscriber.isdigit() and len(subscriber) <= 15):
            raise Problem(404, "no such subscriber", subscriber)
        return web.json_response(await self._balances.read(int(subscriber), read))

    async def credit_control(self, request: web.Request) -> web.Response:
        key = require_key(request)
        body = await json_object(request)
        if body.get("type") != "event":
            raise Problem(400, "malformed body", f"type must be event, not {body.get('type')!r}")
        payload = {
            "subscriber": whole_number(body, "subscriber", at_least=1),
            "amount_minor": whole_number(body, "amount_minor", at_least=1),
        }
        named = {**payload, "service": text_field(body, "service")}
        reply = await self._till.charge(Debit(key, fingerprint("credit-control", named), **payload))
        kind = "application/json" if reply.status < 400 else "application/problem+json"
        return web.Response(text=json.dumps(reply.body), status=reply.status, content_type=kind)


def main() -> None:
    service = Service("charging", limits=Limits(size=12))
    replica = service.open_database("REPLICA", REPLICA)
    balances = Balances(
        Source("primary", service.database, lambda: service.database_answers),
        Source("replica", replica, lambda: True),
        service.metrics,
    )
    till = Till(service.database, service.metrics)
    service.app.add_routes(Charging(balances, till).routes())
    service.consume(events.SUBJECTS, events.handle, batch=100)
    service.background("till", till.run)
    service.background("heartbeat", partial(beat, service.database))
    service.run()
