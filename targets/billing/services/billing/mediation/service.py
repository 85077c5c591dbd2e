"""Mediation's HTTP side: records come in, rated usage and prices can be asked for, corrections be loaded."""

from __future__ import annotations

from aiohttp import web

from billing.common import Limits, Problem, Service, after_a_write, json_object, query_number
from billing.mediation.cdr import Unreadable, read_cdr
from billing.mediation.intake import store, store_file
from billing.mediation.prices import Prices
from billing.mediation.rating import RatingWorker
from billing.mediation.reconciliation import reconciliation
from billing.mediation.reports import day, price_list, usage_of
from billing.mediation.rerating import Reratings

FILE_NAME = "X-File-Name"
LONGEST_FILE_NAME = 200


class Mediation:
    """The handlers."""

    def __init__(self, service: Service, worker: RatingWorker, reratings: Reratings) -> None:
        self._database = service.database
        self._worker = worker
        self._reratings = reratings

    async def accept(self, request: web.Request) -> web.Response:
        """``POST /cdrs``: 202 once the record is stored."""
        try:
            cdr = read_cdr(await json_object(request))
        except Unreadable as error:
            raise Problem(400, "malformed record", str(error)) from error
        await store(self._database, cdr)
        self._worker.wake()
        return web.json_response({"record_id": cdr.record_id}, status=202)

    async def accept_file(self, request: web.Request) -> web.Response:
        """``POST /cdrs/files``: 202 once all of it is stored."""
        name, content = request.headers.get(FILE_NAME, ""), await request.read()
        if not 0 < len(name) <= LONGEST_FILE_NAME or not name.isprintable():
            raise Problem(
                400, "no file name", f"the header {FILE_NAME} must have 1 to {LONGEST_FILE_NAME} characters"
            )
        try:
            outcome = await self._database.run(lambda session: store_file(session, name, content))
        except Unreadable as error:
            raise Problem(400, "malformed file", str(error)) from error
        self._worker.wake()
        return web.json_response({"file": name, "records": outcome.records, **vars(outcome)}, status=202)

    async def usage(self, request: web.Request) -> web.Response:
        """``GET /usage?subscriber=N&from=DAY&to=DAY``: rated usage, up to the day before ``to``."""
        number = query_number(request, "subscriber")
        first, end = (day(request.query.get(name), name) for name in ("from", "to"))
        return web.json_response(await usage_of(self._database, number, first, end))

    async def tariffs(self, _: web.Request) -> web.Response:
        """``GET /tariffs``: the price list in force, and the offers."""
        return web.json_response(await price_list(self._database))

    async def rerate(self, request: web.Request) -> web.Response:
        """``POST /rerating/{id}``: loads the correction or asks; 202 while its run works, 200 when done."""
        correction = request.match_info["id"]
        with after_a_write():
            run = await self._reratings.start(correction)
        if run is None:
            raise Problem(
                404, "no such correction", f"there is no price list for a correction {correction!r:.100}"
            )
        return web.json_response(dict(run), status=200 if run["state"] == "done" else 202)


def main() -> None:
    service = Service("mediation", limits=Limits(size=12))
    prices = Prices()
    worker = RatingWorker(service.database, service.outbox, service.metrics, prices)
    reratings = Reratings(service.database, service.outbox, service.metrics, service.log, prices)
    mediation = Mediation(service, worker, reratings)
    service.app.add_routes(
        [
            web.post("/cdrs", mediation.accept),
            web.post("/cdrs/files", mediation.accept_file),
            web.get("/usage", mediation.usage),
            web.get("/tariffs", mediation.tariffs),
            web.post("/rerating/{id}", mediation.rerate),
        ]
    )
    service.background("rating", worker.run)
    service.background("rerating", reratings.run)
    service.background("reconciliation", reconciliation(service).run)
    service.run()
