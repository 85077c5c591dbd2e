"""Our files go to the partners, in sequence, each until it is confirmed; what they reject comes again.

A partner that finds fault with events answers with a RAP that names them. The file was not taken, so its
number was not used up: those events leave it, and it goes out again without them, perhaps empty, for the
numbers after it are given already. Once all files are there, the events that came back go into further
files of the same period, marked as resubmitted. Each step is one transaction: whatever ends it, the next
incarnation goes on where the rows stand.

A file that is refused as a whole, or that nobody confirms, holds up what comes after it to the same partner,
by its number; other partners' files go out meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from billing.common import (
    Answer,
    CallFailed,
    Database,
    HttpClient,
    Log,
    Metrics,
    Record,
    Session,
    all_ended,
    backoff_s,
)
from billing.roaming.filing import EVENT, file_rejected_events, header, in_file_order
from billing.roaming.tap import CURRENCIES, HOME, TapFile, make_file

TRIES = 4  # in a row, of a file that nobody confirms
RETRY_CAP_S = 2.0

# Of all periods: a file goes out after those with lower numbers.
_UNSENT = """
select id, partner, sequence, period from tap_file
where partner = $1 and direction = 'out' and transmitted_at is null order by sequence"""
_HASH = "select content_hash from tap_file where id = $1"
_EVENTS_OF = f"select {EVENT} from tap_event where file_id = $1"
_SENT = "update tap_file set transmitted_at = clock_timestamp() where id = $1 and transmitted_at is null"
_RAP = """
insert into rap (partner, sequence, reason, record_count) select $1, $2, $3, $4
where not exists (
  select from rap where partner = $1 and sequence = $2 and reason = $3 and record_count = $4)"""
_TAKE_OUT = """
update tap_event set file_id = null, resubmitted = resubmitted + 1
where file_id = $1 and record_id = any($2::text[]) returning record_id"""
_LEFT = """
update tap_file set currency = $2, event_count = $3, total_minor = $4, content_hash = $5
where id = $1 and transmitted_at is null"""


class Transmission:
    """``send_all`` brings the partners what a period has for them."""

    def __init__(self, database: Database, partner: HttpClient, metrics: Metrics, log: Log) -> None:
        self._database = database
        self._partner = partner
        self._metrics = metrics
        self._log = log

    async def send_all(self, period: str) -> bool:
        """True when each partner has all of it. Else one of them takes no file now: call again later."""
        return all(await all_ended(self._send_to(partner, period) for partner in CURRENCIES))

    async def _send_to(self, partner: str, period: str) -> bool:
        """What waits for one partner, file by file; then what it rejected of the period, in new files."""
        while True:
            for row in await self._database.fetch(_UNSENT, partner, attempts=2):
                if not await self._deliver(row):
                    return False
            if not await self._resubmit(partner, period):
                return True

    async def _resubmit(self, partner: str, period: str) -> bool:
        """Put what came back into new files; False when nothing did."""
        found = False
        while await self._database.run(partial(file_rejected_events, period, partner)):
            self._metrics.add("tap_out.resubmitted_files")
            found = True
        return found

    async def _deliver(self, row: Record) -> bool:
        """Whether the partner has confirmed the file. A RAP that names no event of it is for people to solve:
        we ask again, but not at once."""
        silences = 0
        while silences < TRIES:
            file = await self._read(row)
            if file is None:
                return False
            answer = await self._send(file)
            if answer is not None and answer.status == 200:
                await self._database.execute(_SENT, row["id"], attempts=2)
                return True
            if answer is not None and answer.status == 422:
                records, reason = rejection(answer)
                if not await self._database.run(partial(self._take_out, file, row["id"], records, reason)):
                    return False
            else:
                silences += 1
                await asyncio.sleep(backoff_s(silences, base_s=0.1, cap_s=RETRY_CAP_S))
        return False

    async def _read(self, row: Record) -> TapFile | None:
        """The file as its rows have it now; None where they have changed since it was made."""
        events = await self._database.fetch(_EVENTS_OF, row["id"], attempts=2)
        file = make_file(row["partner"], row["sequence"], row["period"], in_file_order(events))
        if file.content_hash != await self._database.fetchval(_HASH, row["id"], attempts=2):
            self._log("tap_out.changed", partner=file.partner, sequence=file.sequence)
            return None
        return file

    async def _send(self, file: TapFile) -> Answer | None:
        """The partner's answer, or None: nobody knows whether the file arrived."""
        try:
            answer = await self._partner.call(
                "POST", "/tap", body=file.wire(sender=HOME, recipient=file.partner)
            )
        except CallFailed as error:
            self._log("tap_out.unconfirmed", partner=file.partner, sequence=file.sequence, error=error)
            return None
        if answer.status != 200:
            self._log("tap_out.refused", partner=file.partner, sequence=file.sequence, status=answer.status)
        return answer

    async def _take_out(
        self, file: TapFile, file_id: int, records: Sequence[str], reason: str, session: Session
    ) -> bool:
        """Take rejected events out of their file; False when the partner named none of it."""
        taken = {row["record_id"] for row in await session.fetch(_TAKE_OUT, file_id, records)}
        await session.execute(_RAP, file.partner, file.sequence, f"out: {reason}", len(taken))
        if taken:
            events = tuple(event for event in file.events if event.record_id not in taken)
            left = make_file(file.partner, file.sequence, file.period, events)
            await session.execute(_LEFT, file_id, *header(left))
            self._metrics.add("tap_out.rejected_events", len(taken))
        return bool(taken)


def rejection(answer: Answer) -> tuple[list[str], str]:
    """The records that a RAP names, none where it is about the file as a whole; and why."""
    body: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    rap = body.get("rap")
    if not isinstance(rap, dict) or not isinstance(rap.get("records"), list):
        return [], str(body.get("detail", ""))
    return [str(record) for record in rap["records"]], str(rap.get("reason", ""))
