"""A call detail record, and what it costs. Pure: no clock, no database.

Every record that was accepted must end rated or suspended: ``rate`` has an answer for whatever
``read_cdr`` lets in, so that one odd record can never hold up the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PARTNERS = frozenset({"alfa", "beta"})
MICRO = 1_000_000
LARGEST = 2**63 - 1  # of PostgreSQL's bigint
LARGEST_CHARGE_MINOR = 10**12  # far beyond any honest record, and a sum of millions still fits a bigint
LONGEST_NAME = 200


class Unreadable(ValueError):
    """The record cannot even be stored. The text names the field, its value and what would be right."""


@dataclass(frozen=True)
class Cdr:
    """One use of a service. ``units``: kilobytes, seconds or messages."""

    record_id: str
    subscriber: int
    service: str
    units: int
    started_at: datetime
    visitor_of: str | None = None  # inbound roamer: the partner whose subscriber this is


@dataclass(frozen=True)
class Rated:
    """``charge_minor`` is what the record costs, in minor units."""

    charge_minor: int


@dataclass(frozen=True)
class Suspended:
    """Kept aside, for a person to look at."""

    reason: str


def read_cdr(body: Mapping[str, Any]) -> Cdr:
    """The record in a request's body."""
    visitor_of = body.get("visitor_of")
    return Cdr(
        record_id=_name(body, "record_id"),
        subscriber=_whole(body, "subscriber"),
        service=_name(body, "service"),
        units=_whole(body, "units"),
        started_at=_instant(body, "started_at"),
        visitor_of=None if visitor_of is None else _name(body, "visitor_of"),
    )


def _name(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME or "\0" in value:
        raise Unreadable(f"{field!r} must be a text of 1 to {LONGEST_NAME} characters, not {value!r:.100}")
    return value


def _whole(body: Mapping[str, Any], field: str) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise Unreadable(f"{field!r} must be a whole number from 0 to 2^63-1, not {value!r:.100}")
    return value


def _instant(body: Mapping[str, Any], field: str) -> datetime:
    value = body.get(field)
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # said below, as for every other wrong value
    raise Unreadable(f"{field!r} must be an RFC 3339 instant with a zone, not {value!r:.100}")


def charge_minor(units: int, price_micro_per_unit: int) -> int:
    """Units at a price in micro-units of the minor unit, rounded half up to minor units."""
    return (units * price_micro_per_unit + MICRO // 2) // MICRO


def rate(cdr: Cdr, tariff: Mapping[str, int]) -> Rated | Suspended:
    """What the record costs. ``tariff``: micro-units per unit, by service."""
    price = tariff.get(cdr.service)
    if price is None:
        return Suspended(f"no tariff for service {cdr.service!r}")
    if cdr.visitor_of is not None and cdr.visitor_of not in PARTNERS:
        return Suspended(f"no roaming agreement with {cdr.visitor_of!r}")
    charge = charge_minor(cdr.units, price)
    if charge > LARGEST_CHARGE_MINOR:
        return Suspended(f"the charge {charge} is above {LARGEST_CHARGE_MINOR}")
    return Rated(charge)
