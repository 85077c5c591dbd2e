"""A TAP file as the partners understand it: its events, and the header its events imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from witnesses.common import Record, Refusal, field

PARTNERS = ("alfa", "beta")
Event = tuple[str, str, int, int]  # record id, service, units, charge in minor units


@dataclass(frozen=True)
class TapFile:
    """One file; two are the same when all of this is."""

    partner: str
    sequence: int
    period: str
    events: tuple[Event, ...]

    @property
    def event_count(self) -> int:
        return len(self.events)

    @property
    def total_minor(self) -> int:
        return sum(charge_minor for _, _, _, charge_minor in self.events)

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
        return [
            {"event": "tap_event", **self._place(direction), **_event_body(event)} for event in self.events
        ]

    def _place(self, direction: str) -> dict[str, Any]:
        return {
            "direction": direction,
            "partner": self.partner,
            "sequence": self.sequence,
            "period": self.period,
        }


def _event_body(event: Event) -> dict[str, Any]:
    return dict(zip(("record_id", "service", "units", "charge_minor"), event, strict=True))


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
        events=tuple(_read_event(event) for event in events),
    )


def _read_event(event: Any) -> Event:
    if not isinstance(event, dict):
        raise Refusal(400, f"an event must be an object, not {event!r}")
    return (
        field(event, "record_id", str),
        field(event, "service", str),
        field(event, "units", int),
        field(event, "charge_minor", int),
    )


def wire(file: TapFile, *, sender: str, recipient: str) -> dict[str, Any]:
    """The body in which a file travels."""
    return {
        "sender": sender,
        "recipient": recipient,
        "partner": file.partner,
        "sequence": file.sequence,
        "period": file.period,
        "events": [_event_body(event) for event in file.events],
        "event_count": file.event_count,
        "total_minor": file.total_minor,
    }
