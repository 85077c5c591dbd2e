"""A TAP file as the partners understand it: its events, and the header its events imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from witnesses.common import Record, Refusal, field

CURRENCIES = {"alfa": "EUR", "beta": "USD"}  # in which each partner settles
PARTNERS = tuple(CURRENCIES)


@dataclass(frozen=True)
class Event:
    """One use of a service by a roamer; the charge in minor units of the file's currency."""

    record_id: str
    service: str
    units: int
    charge_minor: int
    resubmitted: bool = False  # it was in an earlier file, and rejected


@dataclass(frozen=True)
class TapFile:
    """One file; two are the same when all of this is."""

    partner: str
    sequence: int
    period: str
    currency: str
    events: tuple[Event, ...]

    @property
    def event_count(self) -> int:
        return len(self.events)

    @property
    def total_minor(self) -> int:
        return sum(event.charge_minor for event in self.events)

    def head(self, event: str, direction: str) -> dict[str, Any]:
        """The log line about the whole file."""
        return {
            "event": event,
            **self._place(direction),
            "event_count": self.event_count,
            "total_minor": self.total_minor,
        }

    def event_lines(self, direction: str) -> list[dict[str, Any]]:
        """One log line per event of the file."""
        return [{"event": "tap_event", **self._place(direction), **vars(event)} for event in self.events]

    def _place(self, direction: str) -> dict[str, Any]:
        return {
            "direction": direction,
            "partner": self.partner,
            "sequence": self.sequence,
            "period": self.period,
            "currency": self.currency,
        }


def read_file(body: Record) -> TapFile:
    """The file in a request's body, its header's totals not yet looked at; 400 when misshapen."""
    partner = field(body, "partner", str)
    if partner not in PARTNERS:
        raise Refusal(400, f"no such partner: {partner!r}")
    events = field(body, "events", list)
    return TapFile(
        partner=partner,
        sequence=field(body, "sequence", int),
        period=field(body, "period", str),
        currency=field(body, "currency", str),
        events=tuple(_read_event(event) for event in events),
    )


def _read_event(event: Any) -> Event:
    if not isinstance(event, dict):
        raise Refusal(400, f"an event must be an object, not {event!r}")
    return Event(
        field(event, "record_id", str),
        field(event, "service", str),
        field(event, "units", int),
        field(event, "charge_minor", int),
        event.get("resubmitted") is True,
    )


def wire(file: TapFile, *, sender: str, recipient: str) -> dict[str, Any]:
    """The body in which a file travels."""
    return {
        "sender": sender,
        "recipient": recipient,
        "partner": file.partner,
        "sequence": file.sequence,
        "period": file.period,
        "currency": file.currency,
        "events": [vars(event) for event in file.events],
        "event_count": file.event_count,
        "total_minor": file.total_minor,
    }


def files_of(lines: list[dict[str, object]], event: str, direction: str) -> list[TapFile]:
    """The files of such lines of the log, in order, each with the events logged right after it."""
    files = []
    for number, line in enumerate(lines):
        if line["event"] == event and line["direction"] == direction:
            body = lines[number + 1 : number + 1 + int(str(line["event_count"]))]
            files.append(read_file({**line, "events": body}))
    return files


def text_parameter(request: web.Request, name: str) -> str:
    """A parameter of the query, or a 400 that names it."""
    value = request.query.get(name, "")
    if not value:
        raise Refusal(400, f"needs ?{name}=...")
    return value


def whole_parameter(request: web.Request, name: str, default: int | None = None) -> int:
    """A whole number of the query, or a 400 that names it."""
    value = request.query.get(name, "" if default is None else str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise Refusal(400, f"{name!r} must be a whole number, not {value!r:.50}")
    return int(value)
