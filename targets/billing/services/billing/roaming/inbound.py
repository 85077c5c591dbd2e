"""What comes in: visitors' usage as events, and the partners' TAP files about our subscribers abroad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from billing.common import Event, Session, read_instant
from billing.roaming.settlement import PERIOD_LOCK
from billing.roaming.tap import CURRENCIES, TapFile, header_fault, sequence_fault

_VISITORS = """
insert into tap_event (record_id, partner, direction, service, units, charge_minor, currency, started_at)
select r, p, 'out', s, u, c, m, t
from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[])
  e (r, p, s, u, c, m, t)"""

_KNOWN = """
select content_hash from tap_file where partner = $1 and direction = 'in' and sequence = $2"""
_LAST = "select coalesce(max(sequence), 0) from tap_file where partner = $1 and direction = 'in'"
_CLOSED = (
    "select exists (select from settlement_run where period = $1 and state in ('posting', 'netting', 'done'))"
)
_BILLED = """
select record_id from tap_event
where direction = 'in' and partner = $1 and record_id = any($2::text[]) limit 1"""
_RAP = "insert into rap (partner, sequence, reason) values ($1, $2, $3)"
_FILE = """
insert into tap_file (partner, direction, sequence, period, currency, event_count, total_minor, content_hash,
                      transmitted_at)
values ($1, 'in', $2, $3, $4, $5, $6, $7, clock_timestamp()) returning id"""
_EVENTS = """
insert into tap_event (record_id, partner, direction, service, units, charge_minor, currency, period, file_id)
select r, $5, 'in', s, u, c, $6, $7, $8
from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) e (r, s, u, c)"""


async def keep_visitors_usage(session: Session, events: Sequence[Event]) -> None:
    """``cdr.roaming`` events become unfiled TAP events; the next settlement takes them.

    A second event of the same record fails: copies of an event are the inbox's, so it is another event.
    """
    payloads = [event.payload for event in events]
    await session.execute(
        _VISITORS,
        [payload["record_id"] for payload in payloads],
        [payload["partner"] for payload in payloads],
        [payload["service"] for payload in payloads],
        [payload["units"] for payload in payloads],
        [payload["charge_minor"] for payload in payloads],
        [currency_of(payload) for payload in payloads],
        [started_at(payload) for payload in payloads],
    )


def currency_of(payload: Mapping[str, Any]) -> str:
    """The currency of a visitor's record. ValueError where its partner settles in another, or is none."""
    partner = payload["partner"]
    agreed = CURRENCIES.get(partner)
    if agreed is None:
        raise ValueError(f"record {payload['record_id']!r} is of no partner: {partner!r}")
    if payload["currency"] != agreed:
        raise ValueError(f"record {payload['record_id']!r} is in {payload['currency']!r}, not in {agreed}")
    return agreed


def started_at(payload: Mapping[str, Any]) -> datetime:
    """When a visitor's record began. ValueError where it does not say: the event is parked."""
    instant = read_instant(payload["started_at"])
    if instant is None:
        found = payload["started_at"]
        raise ValueError(f"record {payload['record_id']!r} began at {found!r}, which is no instant")
    return instant


class Rejected(Exception):
    """The file is not taken; the reason goes back to its sender and stands in ``rap``."""


async def receive_file(session: Session, file: TapFile) -> str:
    """Take a partner's file: ``accepted``, ``duplicate``, or ``rejected: <reason>``.

    A rejection is a result, not an error: its ``rap`` row is to be committed.
    """
    await session.execute(PERIOD_LOCK)
    if await session.fetchval(_KNOWN, file.partner, file.sequence) == file.content_hash:
        return "duplicate"
    try:
        await _examine(session, file)
    except Rejected as rejection:
        await session.execute(_RAP, file.partner, file.sequence, f"in: {rejection}")
        return f"rejected: {rejection}"
    file_id = await session.fetchval(
        _FILE,
        file.partner,
        file.sequence,
        file.period,
        file.currency,
        file.event_count,
        file.total_minor,
        file.content_hash,
    )
    await session.execute(
        _EVENTS,
        [event.record_id for event in file.events],
        [event.service for event in file.events],
        [event.units for event in file.events],
        [event.charge_minor for event in file.events],
        file.partner,
        file.currency,
        file.period,
        file_id,
    )
    return "accepted"


async def _examine(session: Session, file: TapFile) -> None:
    """Raises Rejected with the first thing that is wrong."""
    last = await session.fetchval(_LAST, file.partner)
    fault = header_fault(file) or sequence_fault(file, last)
    if fault is not None:
        raise Rejected(fault)
    if await session.fetchval(_CLOSED, file.period):
        raise Rejected(f"period {file.period} is settled already")
    billed = await session.fetchval(_BILLED, file.partner, [event.record_id for event in file.events])
    if billed is not None:
        raise Rejected(f"record {billed!r} was billed before")
