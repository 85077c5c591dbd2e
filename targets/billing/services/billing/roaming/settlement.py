"""Settles a period: collect events into files, transmit the files, post the totals.

One worker, driven by what the database says: whatever ends it, the next one goes on where the rows stand.
Each step is idempotent per item, and moves the run on only when all its items are done.

collecting    events that came before the run began -> files of at most 40, one transaction each
transmitting  each file to its partner, in sequence, until confirmed; a retransmission is inert there
posting       per partner and direction: the settlement row and its event, in one transaction
"""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import UUID, uuid5

from billing.common import (
    Bell,
    CallFailed,
    Database,
    HttpClient,
    Log,
    Metrics,
    Outbox,
    Record,
    Session,
    backoff_s,
)
from billing.roaming.tap import EVENTS_PER_FILE, HOME, PARTNERS, Event, TapFile, make_file

NAMESPACE = UUID("5f1c5a0e-93a5-4a1b-8a0d-6a0f6f0a9c21")
POLL_S = 2.0
RETRY_CAP_S = 2.0
# Taken by whoever closes a period and by whoever files a TAP-in file: no file slips into a closed period.
PERIOD_LOCK = "select pg_advisory_xact_lock(hashtext('roaming.period'))"

_OPEN_RUN = "select period, state from settlement_run where state <> 'done' order by started_at limit 1"
# Waits until whoever has begun to add events has ended; later events are later than the run, too.
_ALL_IN = "lock table tap_event in share mode"
_COLLECTING = """
select started_at from settlement_run where period = $1 and state = 'collecting' for update"""
_UNFILED = f"""
select record_id, service, units, charge_minor from tap_event
where partner = $1 and direction = 'out' and file_id is null and received_at < $2
order by received_at limit {EVENTS_PER_FILE} for update"""
_NEXT_SEQUENCE = """
select coalesce(max(sequence), 0) + 1 from tap_file where partner = $1 and direction = 'out'"""
_NEW_FILE = """
insert into tap_file (partner, direction, sequence, period, event_count, total_minor, content_hash)
values ($1, 'out', $2, $3, $4, $5, $6) returning id"""
_FILE_EVENTS = "update tap_event set file_id = $1, period = $2 where record_id = any($3::text[])"
_UNSENT = """
select id, partner, sequence, content_hash from tap_file
where period = $1 and direction = 'out' and transmitted_at is null order by partner, sequence"""
_EVENTS_OF = "select record_id, service, units, charge_minor from tap_event where file_id = $1"
_SENT = "update tap_file set transmitted_at = clock_timestamp() where id = $1 and transmitted_at is null"
_RAP = """
insert into rap (partner, sequence, reason) select $1, $2, $3
where not exists (select from rap where partner = $1 and sequence = $2 and reason = $3)"""
_TOTALS = """
select partner, direction, sum(event_count)::int as event_count, sum(total_minor)::bigint as total_minor
from tap_file where period = $1 group by partner, direction order by partner, direction"""
_SETTLE = """
insert into settlement (period, partner, direction, event_count, total_minor) values ($1, $2, $3, $4, $5)
on conflict do nothing returning true"""
_ADVANCE = """
update settlement_run set state = $3, finished_at = case when $3 = 'done' then clock_timestamp() end
where period = $1 and state = $2"""


class Settlements:
    """``run`` works on open runs for ever; ``wake`` tells it that there is one."""

    def __init__(
        self, database: Database, partner: HttpClient, outbox: Outbox, metrics: Metrics, log: Log
    ) -> None:
        self._database = database
        self._partner = partner
        self._outbox = outbox
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._steps = {
            "collecting": self._collect,
            "transmitting": self._transmit,
            "posting": self._post,
        }

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            while open_run := await self._database.fetchrow(_OPEN_RUN, attempts=2):
                self._log("settlement.step", period=open_run["period"], state=open_run["state"])
                await self._steps[open_run["state"]](open_run["period"])
            await self._bell.wait(POLL_S)

    async def _advance(self, period: str, state: str, next_state: str) -> None:
        async def advance(session: Session) -> None:
            await session.execute(PERIOD_LOCK)
            await session.execute(_ADVANCE, period, state, next_state)

        await self._database.run(advance)

    # -- collecting ---------------------------------------------------------------------------

    async def _collect(self, period: str) -> None:
        # An event's instant is drawn before its commit: one that came before the run may show itself later.
        await self._database.run(lambda session: session.execute(_ALL_IN))
        for partner in PARTNERS:
            while await self._database.run(partial(self._file_some, period, partner)):
                self._metrics.add("tap_out.files")
        await self._advance(period, "collecting", "transmitting")

    async def _file_some(self, period: str, partner: str, session: Session) -> bool:
        """Put up to 40 events into a new file; False when there are none left."""
        started_at = await session.fetchval(_COLLECTING, period)
        if started_at is None:
            return False
        rows = await session.fetch(_UNFILED, partner, started_at)
        if not rows:
            return False
        sequence = await session.fetchval(_NEXT_SEQUENCE, partner)
        file = make_file(partner, sequence, period, _in_file_order(rows))
        file_id = await session.fetchval(
            _NEW_FILE, partner, sequence, period, file.event_count, file.total_minor, file.content_hash
        )
        await session.execute(_FILE_EVENTS, file_id, period, [event.record_id for event in file.events])
        return True

    # -- transmitting -------------------------------------------------------------------------

    async def _transmit(self, period: str) -> None:
        for row in await self._database.fetch(_UNSENT, period, attempts=2):
            events = await self._database.fetch(_EVENTS_OF, row["id"], attempts=2)
            file = make_file(row["partner"], row["sequence"], period, _in_file_order(events))
            if file.content_hash != row["content_hash"]:
                raise RuntimeError(
                    f"file {file.partner}/{file.sequence}: its events have changed since it was made"
                )
            await self._send(file)
            await self._database.execute(_SENT, row["id"], attempts=2)
        await self._advance(period, "transmitting", "posting")

    async def _send(self, file: TapFile) -> None:
        """Until the partner has confirmed the file. A RAP is for people to solve; we ask again, slowly."""
        tries = 0
        while not await self._confirmed(file):
            tries += 1
            await asyncio.sleep(backoff_s(tries, base_s=0.1, cap_s=RETRY_CAP_S))

    async def _confirmed(self, file: TapFile) -> bool:
        try:
            answer = await self._partner.call(
                "POST", "/tap", body=file.wire(sender=HOME, recipient=file.partner)
            )
        except CallFailed as error:
            self._log("tap_out.unconfirmed", partner=file.partner, sequence=file.sequence, error=error)
            return False
        if answer.status == 200:
            return True
        if answer.status == 422:
            reason = answer.body.get("detail", "") if isinstance(answer.body, dict) else ""
            await self._database.execute(_RAP, file.partner, file.sequence, f"out: {reason}")
        self._log("tap_out.refused", partner=file.partner, sequence=file.sequence, status=answer.status)
        return False

    # -- posting ------------------------------------------------------------------------------

    async def _post(self, period: str) -> None:
        for total in await self._database.fetch(_TOTALS, period, attempts=2):
            await self._database.run(partial(self._post_one, period, total))
        await self._advance(period, "posting", "done")

    async def _post_one(self, period: str, total: Record, session: Session) -> None:
        """The row and its event; neither when the row is there already."""
        partner, direction = total["partner"], total["direction"]
        new = await session.fetchval(
            _SETTLE, period, partner, direction, total["event_count"], total["total_minor"]
        )
        if new:
            event = {
                "period": period,
                "partner": partner,
                "direction": direction,
                "total_minor": total["total_minor"],
            }
            event_id = uuid5(NAMESPACE, f"settlement.closed/{period}/{partner}/{direction}")
            await self._outbox.add(session, "settlement.closed", event, event_id=event_id)


def _in_file_order(rows: list[Record]) -> tuple[Event, ...]:
    """By record id, so that a retransmission is the same file to the byte."""
    return tuple(sorted((Event(**row) for row in rows), key=lambda event: event.record_id))
