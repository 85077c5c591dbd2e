"""Roaming's HTTP side: settlements are asked for, partners deliver files; and its start."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from billing.common import UNHURRIED_S, Limits, Problem, Service, after_a_write, json_object, path_period
from billing.roaming.inbound import keep_visitors_usage, receive_file
from billing.roaming.netting import Netting
from billing.roaming.reconciliation import reconciliation
from billing.roaming.reports import Reports
from billing.roaming.settlement import Settlements
from billing.roaming.tap import CURRENCIES, Unreadable, read_file
from billing.roaming.transmission import Transmission

_BEGIN = "insert into settlement_run (period, state) values ($1, 'collecting') on conflict do nothing"
_STATE = "select state from settlement_run where period = $1"
_SETTLED = """
select partner, direction, currency, event_count, total_minor from settlement where period = $1
order by partner, direction"""
_OUT = """
select partner, sequence, period, currency, event_count, total_minor, transmitted_at is not null as confirmed
from tap_file where direction = 'out' order by id desc limit 1000"""


class Roaming:
    """The handlers."""

    def __init__(self, service: Service, settlements: Settlements) -> None:
        self._database = service.database
        self._settlements = settlements

    async def settle(self, request: web.Request) -> web.Response:
        """``POST /settlements/{period}``: begins or asks; 202 while it works, 200 when it is done."""
        period = path_period(request)
        await self._database.execute(_BEGIN, period, attempts=2)
        self._settlements.wake()
        with after_a_write():
            return await self._state_of(period)

    async def _state_of(self, period: str) -> web.Response:
        state = await self._database.fetchval(_STATE, period, attempts=2)
        body: dict[str, Any] = {"period": period, "state": state}
        if state != "done":
            return web.json_response(body, status=202)
        rows = await self._database.fetch(_SETTLED, period, attempts=2)
        return web.json_response({**body, "settlements": [dict(row) for row in rows]})

    async def tap_in(self, request: web.Request) -> web.Response:
        """``POST /tap/in``: a partner's file."""
        try:
            file = read_file(await json_object(request))
        except Unreadable as error:
            raise Problem(400, "malformed file", str(error)) from error
        status = await self._database.run(lambda session: receive_file(session, file))
        if status.startswith("rejected"):
            raise Problem(422, "RAP", status)
        return web.json_response({"status": status})

    async def tap_out(self, _: web.Request) -> web.Response:
        """``GET /tap/out``: our files, the newest first."""
        rows = await self._database.fetch(_OUT, attempts=2)
        return web.json_response({"files": [dict(row) for row in rows]})


def main() -> None:
    service = Service("roaming", limits=Limits(size=8))
    database, outbox, metrics, log = service.database, service.outbox, service.metrics, service.log
    partners = service.client("partner", "PARTNER", timeout_s=3.0, attempts=1)
    settlements = Settlements(
        database,
        Transmission(database, partners, metrics, log),
        Netting(database, partners, outbox, metrics, log),
        outbox,
        metrics,
        log,
    )
    within_s = float(service.settings.environment.get("NRTRDE_WITHIN_S", "8"))
    reports = Reports(database, partners, metrics, log, within_s=within_s)
    roaming = Roaming(service, settlements)
    service.app.add_routes(
        [
            web.post("/settlements/{period}", roaming.settle),
            web.post("/tap/in", roaming.tap_in),
            web.get("/tap/out", roaming.tap_out),
        ]
    )
    service.consume(["cdr.roaming"], keep_visitors_usage, gather_s=UNHURRIED_S)
    service.background("settlement", settlements.run)
    for name in CURRENCIES:
        service.background(f"reports to {name}", partial(reports.serve, name))
    service.background("reconciliation", reconciliation(service).run)
    service.run()
