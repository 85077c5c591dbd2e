"""The TAP files that came to the partners: what they take, and what they find fault with."""

from __future__ import annotations

from collections.abc import Iterable

from witnesses.common import EventLog, Record, Refusal
from witnesses.tap import CURRENCIES, PARTNERS, TapFile, files_of

REASON = "usage that the partner does not find among its own: to be examined and resubmitted"


class Received:
    """The files by partner and sequence. ``plan_rejection`` makes a partner find fault with events."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._files: dict[tuple[str, int], TapFile] = {}
        self._last = dict.fromkeys(PARTNERS, 0)
        self._planned: dict[tuple[str, str], int] = {}  # partner and period: how many events
        self._rejected: dict[tuple[str, str], set[str]] = {}  # the records, once it has come to it
        for file in files_of(log.recovered, "file_received", "out"):
            self._keep(file)
        for line in log.recovered:
            if line["event"] == "rejection_planned":
                self._planned[line["partner"], line["period"]] = line["event_count"]
            elif line["event"] == "rap_record":
                self._rejected.setdefault((line["partner"], line["period"]), set()).add(line["record_id"])

    def _keep(self, file: TapFile) -> None:
        self._files[file.partner, file.sequence] = file
        self._last[file.partner] = file.sequence

    def files(self) -> Iterable[TapFile]:
        return self._files.values()

    def heads(self) -> list[Record]:
        """What we took, as ``GET /files`` shows it."""
        return [file.head("file_received", "out") for file in self._files.values()]

    def plan_rejection(self, partner: str, period: str, events: int) -> None:
        """Once per partner and period: to be told again changes nothing."""
        if partner not in PARTNERS:
            raise Refusal(400, f"no such partner: {partner!r}")
        if (partner, period) not in self._planned:
            self._log.append(
                [
                    {
                        "event": "rejection_planned",
                        "partner": partner,
                        "period": period,
                        "event_count": events,
                    }
                ]
            )
            self._planned[partner, period] = events

    def take(self, file: TapFile, event_count: int, total_minor: int) -> str:
        """``accepted`` or ``duplicate``; a RAP (422) when the file is wrong, or events of it are."""
        reason = self._fault(file, event_count, total_minor)
        if reason is not None:
            self._log.append([{**file.head("file_rejected", "out"), "reason": reason}])
            raise Refusal(422, f"RAP: {reason}")
        if file.sequence <= self._last[file.partner]:
            self._log.append([file.head("file_duplicate", "out")])
            return "duplicate"
        if records := self._objections(file):
            lines = [line for line in file.event_lines("out") if line["record_id"] in records]
            head = {**file.head("events_rejected", "out"), "reason": REASON, "rejected_count": len(records)}
            self._log.append([head, *({**line, "event": "rap_record"} for line in lines)])
            raise Refusal(422, f"RAP: {REASON}", rap={"records": sorted(records), "reason": REASON})
        self._log.append([file.head("file_received", "out"), *file.event_lines("out")])
        self._keep(file)
        return "accepted"

    def _objections(self, file: TapFile) -> set[str]:
        """The records for which the file is not taken: those once rejected, until they are resubmitted."""
        at = (file.partner, file.period)
        if at in self._planned and at not in self._rejected:
            first = [event.record_id for event in file.events[: self._planned[at]]]
            self._rejected[at] = set(first)
        known = self._rejected.get(at, set())
        return {
            event.record_id for event in file.events if event.record_id in known and not event.resubmitted
        }

    def _fault(self, file: TapFile, event_count: int, total_minor: int) -> str | None:
        if file.currency != CURRENCIES[file.partner]:
            return f"the currency is {file.currency}, and {CURRENCIES[file.partner]} was agreed"
        if (event_count, total_minor) != (file.event_count, file.total_minor):
            return (
                f"the header says {event_count} events, {total_minor} in all; "
                f"the events are {file.event_count}, {file.total_minor} in all"
            )
        last = self._last[file.partner]
        if file.sequence > last + 1:
            return f"sequence {file.sequence} came after {last}: one is missing"
        known = self._files.get((file.partner, file.sequence))
        if file.sequence <= last and known != file:
            return f"sequence {file.sequence} was used for another file"
        return None
