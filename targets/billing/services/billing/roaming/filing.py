"""Events are put into files: at most 40 each, one transaction a file, sequence +1 per partner."""

from __future__ import annotations

from collections.abc import Sequence

from billing.common import Record, Session
from billing.roaming.tap import EVENTS_PER_FILE, Event, TapFile, make_file

# What an event of a file is made of; ``resubmitted`` counts in the database.
EVENT = "record_id, service, units, charge_minor, resubmitted > 0 as resubmitted"

_COLLECTING = """
select started_at from settlement_run where period = $1 and state = 'collecting' for update"""
_NEW = f"""
select {EVENT} from tap_event
where partner = $1 and direction = 'out' and file_id is null and period is null and received_at < $2
order by received_at limit {EVENTS_PER_FILE} for update"""
_REJECTED = f"""
select {EVENT} from tap_event
where partner = $1 and direction = 'out' and file_id is null and period = $2
order by received_at limit {EVENTS_PER_FILE} for update"""
_NEXT_SEQUENCE = """
select coalesce(max(sequence), 0) + 1 from tap_file where partner = $1 and direction = 'out'"""
_NEW_FILE = """
insert into tap_file (partner, direction, sequence, period, currency, event_count, total_minor, content_hash)
values ($1, 'out', $2, $3, $4, $5, $6, $7) returning id"""
_FILE_EVENTS = """
update tap_event set file_id = $1, period = $2
where direction = 'out' and partner = $3 and record_id = any($4::text[])"""


async def file_new_events(period: str, partner: str, session: Session) -> bool:
    """A file of events that no settlement has taken, from before this one began; False: there are none."""
    started_at = await session.fetchval(_COLLECTING, period)
    if started_at is None:
        return False
    return await _file(session, period, partner, await session.fetch(_NEW, partner, started_at))


async def file_rejected_events(period: str, partner: str, session: Session) -> bool:
    """A file of events that the partner rejected in an earlier one; False when there are none."""
    return await _file(session, period, partner, await session.fetch(_REJECTED, partner, period))


async def _file(session: Session, period: str, partner: str, rows: Sequence[Record]) -> bool:
    if not rows:
        return False
    sequence = await session.fetchval(_NEXT_SEQUENCE, partner)
    file = make_file(partner, sequence, period, in_file_order(rows))
    file_id = await session.fetchval(_NEW_FILE, partner, sequence, period, *header(file))
    await session.execute(_FILE_EVENTS, file_id, period, partner, [event.record_id for event in file.events])
    return True


def header(file: TapFile) -> tuple[str, int, int, str]:
    """Currency, count, total and hash, as ``tap_file`` keeps them."""
    return file.currency, file.event_count, file.total_minor, file.content_hash


def in_file_order(rows: Sequence[Record]) -> tuple[Event, ...]:
    """By record id, so that a retransmission is the same file to the byte."""
    return tuple(sorted((Event(**row) for row in rows), key=lambda event: event.record_id))
