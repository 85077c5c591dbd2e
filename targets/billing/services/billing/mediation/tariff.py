"""What a record costs. Pure: no clock, no database.

The price is that of the event's own time, whenever it is rated: of the price lists that were valid then,
the one with the highest revision. Every record that was accepted must end rated or suspended: ``rate`` has
an answer for whatever ``read_cdr`` lets in, so that one odd record can never hold up the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from billing.mediation.cdr import Cdr

MICRO = 1_000_000
LARGEST_CHARGE_MINOR = 10**12  # far beyond any honest record, and a sum of millions still fits a bigint
EARLIEST = timedelta(days=1)  # a switch whose clock is further ahead is wrong about the price list, too


@dataclass(frozen=True)
class Tariff:
    """A line of a price list, in force for events in ``[valid_from, valid_to)``.

    ``peak_from`` and ``peak_to`` (exclusive) are minutes of the local day in ``time_zone``; prices are
    micro-units of the minor unit of ``currency`` per unit; ``increment`` counts units.
    """

    id: int
    service: str
    partner: str | None  # None: our own subscribers
    currency: str
    time_zone: str
    valid_from: datetime
    valid_to: datetime
    peak_from: int
    peak_to: int
    price_micro_per_unit: int
    peak_price_micro_per_unit: int
    increment: int
    revision: int

    def charge_minor(self, units: int, started_at: datetime) -> int:
        """Units in whole increments at the price of that time, rounded half up to minor units."""
        local = started_at.astimezone(ZoneInfo(self.time_zone))
        is_peak = self.peak_from <= local.hour * 60 + local.minute < self.peak_to
        price_micro = self.peak_price_micro_per_unit if is_peak else self.price_micro_per_unit
        charged_units = -(-units // self.increment) * self.increment
        return (charged_units * price_micro + MICRO // 2) // MICRO


@dataclass(frozen=True)
class Rated:
    """``charge_minor`` is what the record costs, in minor units of the tariff's currency."""

    charge_minor: int
    tariff: Tariff


@dataclass(frozen=True)
class Suspended:
    """Kept aside, for a person or a correction of the price lists to look at."""

    reason: str


class PriceBook:
    """All price lists that are in force; those of one service, partner and revision do not overlap."""

    def __init__(self, tariffs: Iterable[Tariff] = ()) -> None:
        by_revision: dict[tuple[str, str | None], dict[int, list[Tariff]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for tariff in sorted(tariffs, key=lambda tariff: tariff.valid_from):
            by_revision[tariff.service, tariff.partner][tariff.revision].append(tariff)
        self._lists = {
            name: [
                ([tariff.valid_from for tariff in lists], lists) for _, lists in sorted(revisions.items())
            ][::-1]
            for name, revisions in by_revision.items()
        }
        self._partners = {partner for _, partner in self._lists}

    def has(self, partner: str | None) -> bool:
        """Whether anything is sold to that partner's subscribers (None: to our own)."""
        return partner in self._partners

    def at(self, service: str, partner: str | None, instant: datetime) -> Tariff | None:
        """The highest revision that is valid then."""
        for starts, tariffs in self._lists.get((service, partner), ()):
            place = bisect_right(starts, instant) - 1
            if place >= 0 and instant < tariffs[place].valid_to:
                return tariffs[place]
        return None


def rate(cdr: Cdr, book: PriceBook, now: datetime) -> Rated | Suspended:
    """What the record costs, or why nobody can say."""
    if cdr.started_at > now + EARLIEST:
        return Suspended(f"it began in the future, at {cdr.started_at.isoformat()}")
    if cdr.visitor_of is not None and not book.has(cdr.visitor_of):
        return Suspended(f"no roaming agreement with {cdr.visitor_of!r}")
    tariff = book.at(cdr.service, cdr.visitor_of, cdr.started_at)
    if tariff is None:
        return Suspended(f"no tariff for service {cdr.service!r} at {cdr.started_at.isoformat()}")
    charge_minor = tariff.charge_minor(cdr.units, cdr.started_at)
    if charge_minor > LARGEST_CHARGE_MINOR:
        return Suspended(f"the charge {charge_minor} is above {LARGEST_CHARGE_MINOR}")
    return Rated(charge_minor, tariff)
