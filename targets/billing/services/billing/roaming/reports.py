"""Near-real-time reports (NRTRDE): a partner hears of its visitors' usage long before it is billed for it.

Against fraud: the field allows 4 hours, and a record that is told later is not paid for. Records are put
into reports in batches, a statement each; a report goes to its partner under its id until it is
confirmed, and only then is the next one made: after an outage few, large ones go out.
"""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

from billing.common import CallFailed, Database, HttpClient, Log, Metrics, Record, backoff_s

BATCH = 200
RETRY_CAP_S = 2.0

# The report that is on its way, or a new one of what was not reported; no row when there is nothing to tell.
# One round trip, for it is asked about every second; run again, it finds what it made.
_OPEN = f"""
with open as (
  select id from nrtrde_report where partner = $1 and confirmed_at is null order by created_at limit 1),
untold as (
  select record_id from tap_event
  where partner = $1 and direction = 'out' and report_id is null and not exists (select from open)
  order by received_at limit {BATCH} for update),
told as (
  update tap_event e set report_id = $2 from untold u
  where e.direction = 'out' and e.partner = $1 and e.record_id = u.record_id returning true),
made as (
  insert into nrtrde_report (id, partner, record_count)
  select $2, $1, count(*) from told having count(*) > 0 returning id)
select id from open union all select id from made"""
_RECORDS = """
select record_id, service, units, started_at, received_at from tap_event where report_id = $1
order by record_id"""
_CONFIRMED = """
update nrtrde_report set confirmed_at = clock_timestamp() where id = $1 and confirmed_at is null
returning confirmed_at"""


class Reports:
    """``serve`` reports to one partner for ever: the silence of one delays no other.

    ``within_s``: how old a record may be when its partner has it.
    """

    def __init__(
        self, database: Database, partner: HttpClient, metrics: Metrics, log: Log, *, within_s: float
    ) -> None:
        self._database = database
        self._partner = partner
        self._metrics = metrics
        self._log = log
        self._within_s = within_s

    async def serve(self, partner: str) -> None:
        pause_s = min(1.0, self._within_s / 8)  # for a batch to gather
        silences = 0
        while True:
            report_id = await self._database.fetchval(_OPEN, partner, uuid4(), attempts=2)
            told = 0 if report_id is None else await self._send(partner, report_id)
            if told is None:
                silences += 1
                await asyncio.sleep(backoff_s(silences, base_s=0.1, cap_s=RETRY_CAP_S))
            else:
                silences = 0
                if told < BATCH:
                    await asyncio.sleep(pause_s)

    async def _send(self, partner: str, report_id: UUID) -> int | None:
        """How many records the partner has confirmed; None: nobody knows whether it has them."""
        records = await self._database.fetch(_RECORDS, report_id, attempts=2)
        body = {
            "report_id": str(report_id),
            "partner": partner,
            "records": [_told(record) for record in records],
        }
        try:
            answer = await self._partner.call("POST", "/nrtrde", body=body)
        except CallFailed as error:
            self._log("nrtrde.unconfirmed", partner=partner, report=str(report_id), error=error)
            return None
        if answer.status != 200:
            self._log("nrtrde.refused", partner=partner, report=str(report_id), status=answer.status)
            return None
        at = await self._database.fetchval(_CONFIRMED, report_id, attempts=2)
        self._metrics.add("nrtrde.records", len(records))
        if at is not None:
            ages_s = [(at - record["received_at"]).total_seconds() for record in records]
            self._metrics.add("nrtrde.late", sum(age_s > self._within_s for age_s in ages_s))
        return len(records)


def _told(record: Record) -> dict[str, object]:
    return {
        **{name: record[name] for name in ("record_id", "service", "units")},
        "started_at": record["started_at"].isoformat(),
    }
