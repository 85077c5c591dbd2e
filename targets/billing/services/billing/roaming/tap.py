"""A TAP file: events of one partner in one currency, a header that must agree with them, a number. Pure.

Numbers run from 1 without a gap per partner and direction. A retransmission keeps its number and
content, and changes nothing; a number used for other content is rejected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.common import PERIOD

CURRENCIES = {"alfa": "EUR", "beta": "USD"}  # in which we settle, by partner
HOME = "home"
EVENTS_PER_FILE = 40
LARGEST = 2**63 - 1  # of PostgreSQL's bigint


class Unreadable(ValueError):
    """Not a TAP file at all: the text names the field and its value."""


@dataclass(frozen=True)
class Event:
    """One use of a service by a roamer; the charge is in minor units of the file's currency."""

    record_id: str
    service: str
    units: int
    charge_minor: int
    resubmitted: bool = False  # it was in an earlier file, and rejected


@dataclass(frozen=True)
class TapFile:
    """``event_count`` and ``total_minor`` are what the header says."""

    partner: str
    sequence: int
    period: str
    currency: str
    events: tuple[Event, ...]
    event_count: int
    total_minor: int

    @property
    def content_hash(self) -> str:
        """Equal for identical copies only."""
        content = [
            self.partner,
            self.sequence,
            self.period,
            self.currency,
            [list(vars(event).values()) for event in self.events],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def wire(self, *, sender: str, recipient: str) -> dict[str, Any]:
        """The body in which the file travels."""
        return {
            "sender": sender,
            "recipient": recipient,
            **vars(self),
            "events": [vars(e) for e in self.events],
        }


def make_file(partner: str, sequence: int, period: str, events: tuple[Event, ...]) -> TapFile:
    """A file whose header agrees with its events, in the partner's currency."""
    total_minor = sum(event.charge_minor for event in events)
    return TapFile(partner, sequence, period, CURRENCIES[partner], events, len(events), total_minor)


def header_fault(file: TapFile) -> str | None:
    """Why the file must be rejected for itself, or None."""
    right = make_file(file.partner, file.sequence, file.period, file.events)
    if file.currency != right.currency:
        return f"the currency is {file.currency}, and {right.currency} was agreed"
    if (file.event_count, file.total_minor) != (right.event_count, right.total_minor):
        return (
            f"the header says {file.event_count} events, {file.total_minor} in all; "
            f"the events are {right.event_count}, {right.total_minor} in all"
        )
    if len({event.record_id for event in file.events}) < right.event_count:
        return "a record stands in the file twice"
    return None


def sequence_fault(file: TapFile, last: int) -> str | None:
    """Why a file of this number cannot follow number ``last``, or None."""
    if file.sequence > last + 1:
        return f"sequence {file.sequence} came after {last}: one is missing"
    return f"sequence {file.sequence} was used for another file" if file.sequence <= last else None


def read_file(body: Mapping[str, Any]) -> TapFile:
    """The file in a request's body."""
    partner, period = _text(body, "partner"), _text(body, "period")
    if partner not in CURRENCIES:
        raise Unreadable(f"'partner' must be one of {', '.join(CURRENCIES)}, not {partner!r}")
    if not PERIOD.fullmatch(period):
        raise Unreadable(f"'period' must match {PERIOD.pattern}, not {period!r}")
    events = body.get("events")
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise Unreadable(f"'events' must be a list of objects, not {events!r:.100}")
    return TapFile(
        partner=partner,
        sequence=_whole(body, "sequence"),
        period=period,
        currency=_text(body, "currency"),
        events=tuple(_read_event(event) for event in events),
        event_count=_whole(body, "event_count"),
        total_minor=_whole(body, "total_minor"),
    )


def _read_event(event: Mapping[str, Any]) -> Event:
    return Event(
        _text(event, "record_id"),
        _text(event, "service"),
        _whole(event, "units"),
        _whole(event, "charge_minor"),
        event.get("resubmitted") is True,
    )


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise Unreadable(f"{field!r} must be 1 to 200 printable characters, not {value!r:.100}")
    return value


def _whole(body: Mapping[str, Any], field: str) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise Unreadable(f"{field!r} must be a whole number from 0 to 2^63-1, not {value!r:.100}")
    return value
