"""The HTTP side of invoicing, and its start."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from billing.common import UNHURRIED_S, Limits, Problem, Service, after_a_write, path_period, query_number
from billing.invoicing.billing_run import BillingRuns
from billing.invoicing.compensation import Compensation
from billing.invoicing.dunning import FROZEN_BY, Dunning
from billing.invoicing.events import Inflow
from billing.invoicing.reconciliation import reconciliation
from billing.invoicing.rules import Rules

STATES = ("issued", "paid")

_BEGIN = "insert into bill_run (period, state) values ($1, 'collecting') on conflict do nothing"
_RUN = "select state, invoices, total_minor, carried from bill_run where period = $1"
_LIST = """
select id::text as invoice_id, number, period, total_minor, paid_minor, state, due_at from invoice
where subscriber = $1 and state = coalesce($2, state) order by number desc limit 100"""


class Invoicing:
    """The handlers."""

    def __init__(self, service: Service, runs: BillingRuns) -> None:
        self._database = service.database
        self._runs = runs

    async def bill(self, request: web.Request) -> web.Response:
        """``POST /billruns/{period}``: begins or asks; 202 while it works, 200 when it is done."""
        period = path_period(request)
        await self._database.execute(_BEGIN, period, attempts=2)
        self._runs.wake()
        with after_a_write():
            row = await self._database.fetchrow(_RUN, period, attempts=2)
        body: dict[str, Any] = {"period": period, **dict(row or {"state": "collecting"})}
        return web.json_response(body, status=200 if body["state"] == "done" else 202)

    async def invoices(self, request: web.Request) -> web.Response:
        """``GET /invoices?subscriber=N&state=``: the newest hundred."""
        number, state = query_number(request, "subscriber"), request.query.get("state")
        if state is not None and state not in STATES:
            raise Problem(400, "malformed query", f"state must be issued or paid, not {state!r:.100}")
        rows = await self._database.fetch(_LIST, number, state, attempts=2)
        found = [{**row, "due_at": row["due_at"].isoformat()} for row in rows]
        return web.json_response({"subscriber": number, "invoices": found})


def main() -> None:
    service = Service("invoicing", limits=Limits(size=6))
    rules = Rules.from_env(service.settings.environment)
    database, outbox, metrics, log = service.database, service.outbox, service.metrics, service.log
    runs = BillingRuns(database, outbox, rules, metrics, log)
    compensation = Compensation(database, outbox, metrics, log)
    inflow = Inflow(rules, FROZEN_BY, compensation.wake, metrics, log)
    invoicing = Invoicing(service, runs)
    service.app.add_routes(
        [web.post("/billruns/{period}", invoicing.bill), web.get("/invoices", invoicing.invoices)]
    )
    service.consume(
        ["cdr.rated", "cdr.reversed", "payment.settled", "notice.delivered", "ops.outage.ended"],
        inflow.handle,
        gather_s=UNHURRIED_S,
    )
    service.background("billing run", runs.run)
    service.background("dunning", Dunning(database, outbox, rules, metrics, log).run)
    service.background("compensation", compensation.run)
    service.background("reconciliation", reconciliation(service).run)
    service.run()
