"""What the partners hear besides files: reports of their visitors' usage, and the netting of a period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from witnesses.common import EventLog, Record, Refusal, field
from witnesses.emitting import Sent
from witnesses.received import Received
from witnesses.tap import CURRENCIES, PARTNERS

RECORD = {"record_id": str, "service": str, "units": int, "started_at": str}


class Reports:
    """Near-real-time reports; the same report again is a line ``nrtrde_duplicate``, and changes nothing."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: dict[str, list[Record]] = {}
        for line in log.recovered:
            if line["event"] == "nrtrde_report":
                self._known[line["report_id"]] = []
            elif line["event"] == "nrtrde_record":
                self._known[line["report_id"]].append({name: line[name] for name in RECORD})

    def take(self, body: Record) -> str:
        """``accepted`` or ``duplicate``; 422 when the id was used for other records."""
        report_id, partner = field(body, "report_id", str), field(body, "partner", str)
        if partner not in PARTNERS:
            raise Refusal(400, f"no such partner: {partner!r}")
        records = [_read_record(record) for record in field(body, "records", list)]
        known = self._known.get(report_id)
        event = (
            "nrtrde_report" if known is None else "nrtrde_duplicate" if known == records else "nrtrde_refused"
        )
        head = {"event": event, "report_id": report_id, "partner": partner, "event_count": len(records)}
        if event != "nrtrde_report":
            self._log.append([head])
            if event == "nrtrde_refused":
                raise Refusal(422, f"report {report_id!r} came before with other records")
            return "duplicate"
        lines = [
            {"event": "nrtrde_record", "report_id": report_id, "partner": partner, **record}
            for record in records
        ]
        self._log.append([head, *lines])
        self._known[report_id] = records
        return "accepted"


def _read_record(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise Refusal(400, f"a record must be an object, not {record!r:.100}")
    return {name: field(record, name, kind) for name, kind in RECORD.items()}


@dataclass(frozen=True)
class Figures:
    """What the partner owes us, and what we owe the partner."""

    receivable_minor: int
    payable_minor: int


class Clearing:
    """Nets a period by the partner's own files; what is agreed once stays."""

    def __init__(self, log: EventLog, received: Received, sent: Sent) -> None:
        self._log = log
        self._received = received
        self._sent = sent
        self._agreed: dict[tuple[str, str, str], Figures] = {}
        for line in log.recovered:
            if line["event"] == "netting_agreed":
                figures = Figures(line["receivable_minor"], line["payable_minor"])
                self._agreed[line["partner"], line["period"], line["currency"]] = figures

    def compare(self, partner: str, period: str, currency: str, told: Figures) -> tuple[str, Figures]:
        """``agreed`` or ``disputed``, and our own figures."""
        if CURRENCIES.get(partner) != currency:
            raise Refusal(422, f"no netting with {partner!r} in {currency!r}")
        at = (partner, period, currency)
        before = self._agreed.get(at)
        own = before or self._figures(partner, period)
        status = "agreed" if told == own else "disputed"
        event = "netting_repeated" if before and status == "agreed" else f"netting_{status}"
        line = {"event": event, "partner": partner, "period": period, "currency": currency, **vars(told)}
        line |= {f"own_{name}": value for name, value in vars(own).items()}
        self._log.append([line])
        if status == "agreed":
            self._agreed[at] = own
        return status, own

    def _figures(self, partner: str, period: str) -> Figures:
        """The sums of the files that we took, and of ours that were confirmed."""

        def total(files: Any) -> int:
            return sum(f.total_minor for f in files if (f.partner, f.period) == (partner, period))

        return Figures(total(self._received.files()), total(self._sent.confirmed()))
