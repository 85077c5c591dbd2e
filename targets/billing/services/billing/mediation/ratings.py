"""Ratings as they are kept: the row, and the event that tells of it, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from billing.common import Outbox, Session, event_json
from billing.mediation.cdr import Cdr
from billing.mediation.tariff import Rated, Suspended

NAMESPACE = UUID("0d0a4d3a-1c0e-4a39-9d6e-8d6a7a2f7b11")

_RATED = """
with rated as (
  insert into cdr_rated (record_id, rating, subscriber, service, units, started_at, charge_minor, currency,
                         tariff_id, revision, visitor_of)
  select * from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[],
                       $7::bigint[], $8::text[], $9::bigint[], $10::int[], $11::text[]))
insert into outbox (event_id, subject, payload)
select id, subject, payload::jsonb
from unnest($12::uuid[], $13::text[], $14::text[]) e (id, subject, payload)"""

_REVERSED = """
update cdr_rated set reversed_at = clock_timestamp()
from unnest($1::text[], $2::int[]) r (record, number)
where record_id = r.record and rating = r.number and reversed_at is null returning true"""

# A record comes back into suspense when a correction makes it one that cannot be rated.
_SUSPENDED = """
insert into suspense (record_id, reason) select * from unnest($1::text[], $2::text[])
on conflict (record_id) do update set reason = excluded.reason, resolved_at = null"""

Told = tuple[UUID, Mapping[str, Any]]


@dataclass(frozen=True)
class Rating:
    """One rating of a record: the first has ``number`` 1."""

    cdr: Cdr
    number: int
    rated: Rated


@dataclass(frozen=True)
class Reversal:
    """A rating that no longer holds. Home records only."""

    cdr: Cdr
    number: int
    charge_minor: int


async def keep_ratings(session: Session, outbox: Outbox, ratings: Sequence[Rating]) -> None:
    if not ratings:
        return
    columns = zip(*((*_row(rating), *_event(rating)) for rating in ratings), strict=True)
    await session.execute(_RATED, *(list(column) for column in columns))
    session.after_commit(outbox.wake)


async def keep_reversals(session: Session, outbox: Outbox, reversals: Sequence[Reversal]) -> None:
    """Raises RuntimeError when one of them is not live any more."""
    if not reversals:
        return
    done = await session.fetch(
        _REVERSED, [item.cdr.record_id for item in reversals], [item.number for item in reversals]
    )
    if len(done) != len(reversals):
        raise RuntimeError(f"of {len(reversals)} ratings to reverse only {len(done)} were live")
    await outbox.add_all(session, "cdr.reversed", [told_of_reversal(item) for item in reversals])


async def keep_suspended(session: Session, suspended: Sequence[tuple[Cdr, Suspended]]) -> None:
    if suspended:
        await session.execute(
            _SUSPENDED,
            [cdr.record_id for cdr, _ in suspended],
            [result.reason for _, result in suspended],
        )


def _row(rating: Rating) -> tuple[Any, ...]:
    cdr, rated = rating.cdr, rating.rated
    return (
        *(cdr.record_id, rating.number, cdr.subscriber, cdr.service, cdr.units, cdr.started_at),
        *(rated.charge_minor, rated.tariff.currency, rated.tariff.id, rated.tariff.revision, cdr.visitor_of),
    )


def _event(rating: Rating) -> tuple[UUID, str, str]:
    """Id, subject and text, as the outbox keeps them."""
    subject = subject_of(rating)
    event_id, payload = told_of(rating) if subject == "cdr.rated" else told_of_visitor(rating)
    return event_id, subject, event_json(event_id, dict(payload))


def subject_of(rating: Rating) -> str:
    """Home subscribers are charged, visitors go to roaming settlement."""
    return "cdr.rated" if rating.cdr.visitor_of is None else "cdr.roaming"


def told_of(rating: Rating) -> Told:
    """Id and payload of ``cdr.rated``."""
    own = {
        "rating": rating.number,
        "subscriber": rating.cdr.subscriber,
        "currency": rating.rated.tariff.currency,
    }
    return _told("cdr.rated", rating.number, {**_usage(rating.cdr, rating.rated.charge_minor), **own})


def told_of_visitor(rating: Rating) -> Told:
    """Id and payload of ``cdr.roaming``."""
    own = {"partner": rating.cdr.visitor_of, "currency": rating.rated.tariff.currency}
    return _told("cdr.roaming", rating.number, {**_usage(rating.cdr, rating.rated.charge_minor), **own})


def told_of_reversal(item: Reversal) -> Told:
    """Id and payload of ``cdr.reversed``: all that the rating said, so that nobody needs to look it up."""
    own = {"rating": item.number, "subscriber": item.cdr.subscriber}
    return _told("cdr.reversed", item.number, {**_usage(item.cdr, item.charge_minor), **own})


def _usage(cdr: Cdr, charge_minor: int) -> dict[str, Any]:
    return {
        "record_id": cdr.record_id,
        "service": cdr.service,
        "units": cdr.units,
        "charge_minor": charge_minor,
        "started_at": cdr.started_at.isoformat(),
    }


def _told(subject: str, number: int, payload: Mapping[str, Any]) -> Told:
    """The same rating told again has the same id."""
    return uuid5(NAMESPACE, f"{subject}/{payload['record_id']}/{number}"), payload
