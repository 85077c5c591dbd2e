"""The HTTP side of charging, and its start."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from aiohttp import web

from billing.charging import events
from billing.charging.balance import Balances, Read, Source, beat
from billing.charging.batches import Batches
from billing.charging.expiry import Expiry
from billing.charging.reconciliation import reconciliation
from billing.charging.requests import Debit, Initial, Report, ReportKind, Request
from billing.charging.roamers import Roamers
from billing.charging.till import Till
from billing.common import (
    Database,
    Limits,
    Problem,
    Service,
    Settings,
    fingerprint,
    json_object,
    require_key,
    text_field,
    whole_number,
)

# A replica's connections are young, so that a standby that has come back is found soon.
REPLICA = Limits(size=8, checkout=0.5, connect=0.5, command=1.0, age=10.0)

SERVICES = ("data", "voice")
MOST_UNITS = 10**9  # of one request: what they cost, and their sums, fit 64 bits

_BUCKETS = """
select service, quota_units, used_units, reserved_units from bucket where subscriber = $1 order by service"""


class Charging:
    """Routes of the service."""

    def __init__(self, balances: Balances, till: Till, database: Database) -> None:
        self._balances = balances
        self._till = till
        self._database = database

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/accounts/{subscriber}/balance", self.balance),
            web.get("/accounts/{subscriber}/buckets", self.buckets),
            web.post("/credit-control", self.credit_control),
        ]

    async def balance(self, request: web.Request) -> web.Response:
        preferred = request.query.get("read", "primary")
        if preferred not in ("primary", "replica"):
            raise Problem(400, "malformed query", f"read must be primary or replica, not {preferred!r}")
        read: Read = "replica" if preferred == "replica" else "primary"
        return web.json_response(await self._balances.read(_subscriber(request), read))

    async def buckets(self, request: web.Request) -> web.Response:
        subscriber = _subscriber(request)
        rows = await self._database.fetch(_BUCKETS, subscriber, attempts=2)
        if not rows:
            raise Problem(404, "no such subscriber", str(subscriber))
        return web.json_response({"buckets": [dict(row) for row in rows]})

    async def credit_control(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        reply = await self._till.serve(_parsed(request, body))
        kind = "application/json" if reply.status < 400 else "application/problem+json"
        return web.Response(text=json.dumps(reply.body), status=reply.status, content_type=kind)


def _parsed(request: web.Request, body: dict[str, Any]) -> Request:
    match body.get("type"):
        case "event":
            return _debit(require_key(request), body)
        case "initial":
            return _initial(body)
        case "update":
            asked = {
                "used_units": _units(body, "used_units"),
                "requested_units": _units(body, "requested_units"),
            }
            return _report("update", body, asked)
        case "terminate":
            return _report("terminate", body, {"used_units": _units(body, "used_units")})
        case unknown:
            raise Problem(
                400, "malformed body", f"type must be event, initial, update or terminate, not {unknown!r}"
            )


def _debit(key: str, body: dict[str, Any]) -> Debit:
    payload = {
        "subscriber": whole_number(body, "subscriber", at_least=1),
        "amount_minor": whole_number(body, "amount_minor", at_least=1),
    }
    named = {**payload, "service": text_field(body, "service")}
    return Debit(key, fingerprint("credit-control", named), **payload)


def _initial(body: dict[str, Any]) -> Initial:
    service = text_field(body, "service")
    if service not in SERVICES:
        raise Problem(400, "malformed body", f"service must be one of {SERVICES}, not {service!r}")
    session_id = text_field(body, "session_id")
    subscriber = whole_number(body, "subscriber", at_least=1)
    requested = _units(body, "requested_units", at_least=1)
    named = {"subscriber": subscriber, "service": service, "requested_units": requested}
    return Initial(session_id, fingerprint("initial", named), subscriber, service, requested)


def _report(kind: ReportKind, body: dict[str, Any], units: dict[str, int]) -> Report:
    number = whole_number(body, "request_number", at_least=1)
    if number >= 2**31:
        raise Problem(400, "malformed body", f"request_number {number} is too large")
    return Report(kind, text_field(body, "session_id"), number, fingerprint(kind, units), **units)


def _units(body: dict[str, Any], name: str, *, at_least: int = 0) -> int:
    units = whole_number(body, name, at_least=at_least)
    if units > MOST_UNITS:
        raise Problem(400, "malformed body", f"{name} must be at most {MOST_UNITS}, not {units}")
    return units


def _subscriber(request: web.Request) -> int:
    """The number in the path, or a 404."""
    subscriber = request.match_info["subscriber"]
    if not (subscriber.isascii() and subscriber.isdigit() and len(subscriber) <= 15):
        raise Problem(404, "no such subscriber", subscriber)
    return int(subscriber)


def validity_s(settings: Settings) -> int:
    """How long a grant is good: VALIDITY_S, in whole seconds."""
    value = settings.environment.get("VALIDITY_S", "10")
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 86_400):
        raise SystemExit(f"VALIDITY_S must be 1 to 86400 seconds, not {value!r}")
    return int(value)


def main() -> None:
    service = Service("charging", limits=Limits(size=12))
    replica = service.open_database("REPLICA", REPLICA)
    balances = Balances(
        Source("primary", service.database, lambda: service.database_answers),
        Source("replica", replica, lambda: True),
        service.metrics,
    )
    valid_s = validity_s(service.settings)
    batches = Batches(service.database, service.outbox, service.metrics, valid_s)
    till = Till(batches, service.metrics)
    expiry = Expiry(service.database, batches, service.metrics)
    roamers = Roamers(service.database, replica, lambda: service.database_answers, service.metrics)
    service.app.add_routes(roamers.routes())
    service.app.add_routes(Charging(balances, till, service.database).routes())
    service.consume(events.SUBJECTS, events.handle, batch=100)
    service.background("till", till.run)
    service.background("expiry", expiry.run)
    service.background("heartbeat", partial(beat, service.database))
    service.background("reconciliation", reconciliation(service).run)
    service.run()
