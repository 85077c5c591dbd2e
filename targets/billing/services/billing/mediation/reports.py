"""What is told of usage and prices: the rated usage of a subscriber, and the price list in force."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime
from typing import Any

from billing.common import Database, Problem

DAYS_OF = "Europe/Berlin"  # a report's days are those of the home price list

# Live ratings only: what was reversed is as if it had never been.
_USAGE = f"""
select service, (started_at at time zone '{DAYS_OF}')::date as day, count(*) as records,
       sum(units)::text as units, sum(charge_minor)::bigint as charge_minor
from cdr_rated
where subscriber = $1 and visitor_of is null and reversed_at is null
  and started_at >= coalesce($2::date, '-infinity')::timestamp at time zone '{DAYS_OF}'
  and started_at < coalesce($3::date, 'infinity')::timestamp at time zone '{DAYS_OF}'
group by 1, 2 order by 1, 2"""

_IN_FORCE = """
select distinct on (service) service, currency, time_zone, peak_from, peak_to, price_micro_per_unit,
       peak_price_micro_per_unit, increment, revision, valid_from, valid_to,
       case service when 'data' then 'kB' when 'voice' then 's' else 'message' end as unit
from tariff
where partner is null and valid_from <= clock_timestamp() and clock_timestamp() < valid_to
  and (correction is null or correction in (select id from rerating))
order by service, revision desc"""

_OFFERS = "select code, service, title, units, price_minor from offer order by code"


def day(query: str | None, name: str) -> date | None:
    """A day of a query, or a 400 that names it."""
    try:
        return None if query is None else date.fromisoformat(query)
    except ValueError as error:
        raise Problem(
            400, "malformed query", f"{name} must be a day as 2026-01-31, not {query!r:.100}"
        ) from error


async def usage_of(
    database: Database, subscriber: int, first: date | None, end: date | None
) -> dict[str, Any]:
    """By service, and by service and day, for events in ``[first, end)``."""
    rows = await database.fetch(_USAGE, subscriber, first, end, attempts=2)
    days = [{**row, "day": row["day"].isoformat(), "units": int(row["units"])} for row in rows]
    sums = {name: Counter[str]() for name in ("records", "units", "charge_minor")}
    for line in days:
        for name, by_service in sums.items():
            by_service[line["service"]] += line[name]
    services = [
        {"service": service, **{name: by_service[service] for name, by_service in sums.items()}}
        for service in sorted(sums["records"])
    ]
    total_minor = sum(line["charge_minor"] for line in days)
    return {"subscriber": subscriber, "services": services, "days": days, "total_minor": total_minor}


async def price_list(database: Database) -> dict[str, Any]:
    """The home price list at this instant, and the offers."""
    tariffs = await database.fetch(_IN_FORCE, attempts=2)
    offers = await database.fetch(_OFFERS, attempts=2)
    return {"tariffs": [_public(dict(row)) for row in tariffs], "offers": [dict(row) for row in offers]}


def _public(tariff: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in tariff.items()
    }
