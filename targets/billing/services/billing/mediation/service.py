"""Mediation's HTTP side: records come in, rated usage can be asked for."""

from __future__ import annotations

from aiohttp import web

from billing.common import Limits, Problem, Service, Session, json_object
from billing.mediation.cdr import Cdr, Unreadable, read_cdr
from billing.mediation.rating import RatingWorker
from billing.mediation.reconciliation import reconciliation

_STORE = """
insert into cdr_raw (record_id, subscriber, service, units, started_at, visitor_of)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning true"""

_STORED = "select subscriber, service, units, started_at, visitor_of from cdr_raw where record_id = $1"

_USAGE = """
select service, count(*) as records, sum(units)::text as units, sum(charge_minor)::bigint as charge_minor
from cdr_rated where subscriber = $1 and visitor_of is null group by service order by service"""


async def store(session: Session, cdr: Cdr) -> None:
    """Keep a record; an identical copy changes nothing, other content under its id is a 422."""
    content = (cdr.subscriber, cdr.service, cdr.units, cdr.started_at, cdr.visitor_of)
    if await session.fetchval(_STORE, cdr.record_id, *content):
        return
    stored = await session.fetchrow(_STORED, cdr.record_id)
    if stored is None or tuple(stored) != content:
        raise Problem(422, "record id reused", f"record {cdr.record_id!r} came before with other content")


class Mediation:
    """The handlers."""

    def __init__(self, service: Service, worker: RatingWorker) -> None:
        self._database = service.database
        self._worker = worker

    async def accept(self, request: web.Request) -> web.Response:
        """``POST /cdrs``: 202 once the record is stored."""
        try:
            cdr = read_cdr(await json_object(request))
        except Unreadable as error:
            raise Problem(400, "malformed record", str(error)) from error
        await self._database.run(lambda session: store(session, cdr))
        self._worker.wake()
        return web.json_response({"record_id": cdr.record_id}, status=202)

    async def usage(self, request: web.Request) -> web.Response:
        """``GET /usage?subscriber=N``: rated usage by service."""
        number = request.query.get("subscriber", "")
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise Problem(400, "malformed query", f"subscriber must be a whole number, not {number!r:.100}")
        rows = await self._database.fetch(_USAGE, int(number), attempts=2)
        services = [{**row, "units": int(row["units"])} for row in rows]
        total_minor = sum(row["charge_minor"] for row in rows)
        return web.json_response(
            {"subscriber": int(number), "services": services, "total_minor": total_minor}
        )


def main() -> None:
    service = Service("mediation", limits=Limits(size=12))
    worker = RatingWorker(service.database, service.outbox, service.metrics)
    mediation = Mediation(service, worker)
    service.app.add_routes([web.post("/cdrs", mediation.accept), web.get("/usage", mediation.usage)])
    service.background("rating", worker.run)
    service.background("reconciliation", reconciliation(service).run)
    service.run()
