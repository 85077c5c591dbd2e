"""Call detail records of subscribers at home, one by one and in files, and the report of what they cost."""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random
from typing import Any

from harness.load.workload import Op, operation
from traffic.base import Traffic, started_at

UNITS = {"data": (10, 50_000), "voice": (10, 1_800), "sms": (1, 5)}  # kilobytes, seconds, messages
UNRATABLE_SHARE = 0.02
UNRATABLE = "telex"
AHEAD = timedelta(days=3)  # a switch whose clock is wrong
LATE_SHARE = 0.3
LATEST = timedelta(days=40)

FILE_RECORDS = 10
COPIED_SHARE = 0.15  # of the records of a file: they stand in it twice
MALFORMED_SHARE = 0.1  # of the files: one line is no record
MALFORMED = ("", "{", '{"record_id": "x"}', '{"record_id": "x", "subscriber": -1}', "[]")


def record(op: Op, service: str, units: int) -> dict[str, Any]:
    """The record of the operation, as a switch writes it."""
    return {
        "record_id": op.key,
        "subscriber": op.subscriber,
        "service": service,
        "units": units,
        "started_at": started_at(op),
    }


def home_usage(rng: Random, op: Op) -> dict[str, Any]:
    """Service, units and start of one use; some come late, few are such as nobody can rate."""
    service = rng.choice(sorted(UNITS))
    units = rng.randint(*UNITS[service])
    earlier = rng.random() * LATEST if rng.random() < LATE_SHARE else timedelta(0)
    if rng.random() < UNRATABLE_SHARE:
        if rng.random() < 0.5:
            service = UNRATABLE
        else:
            earlier = -AHEAD
    return {"service": service, "units": units, "started_at": started_at(op, earlier=earlier)}


class UsageTraffic(Traffic):
    abstract = True

    @operation("usage")
    def usage(self, op: Op) -> None:
        """A call detail record of a subscriber at home."""
        use = home_usage(op.rng, op)
        op.set_detail(use)
        self.send(op, "POST", "/cdrs", {"record_id": op.key, "subscriber": op.subscriber, **use})

    @operation("usage_file")
    def usage_file(self, op: Op) -> None:
        """A file of a switch: some records stand in it twice, now and then a line is none."""
        records = [
            {"record_id": f"{op.key}.{number}", "subscriber": op.subscriber, **home_usage(op.rng, op)}
            for number in range(FILE_RECORDS)
        ]
        lines = [json.dumps(record) for record in records]
        lines += [line for line in lines if op.rng.random() < COPIED_SHARE]
        malformed = [op.rng.choice(MALFORMED)] if op.rng.random() < MALFORMED_SHARE else []
        for line in malformed:
            lines.insert(op.rng.randrange(len(lines)), line)
        op.set_detail({"records": records, "lines": len(lines), "malformed": len(malformed)})
        headers = {"X-File-Name": op.key, "Content-Type": "application/x-ndjson"}
        answer = self.send(op, "POST", "/cdrs/files", text="\n".join(lines) + "\n", headers=headers)
        if answer.outcome == "ok":
            op.set_result(answer.json["accepted"])

    @operation("usage_report")
    def usage_report(self, op: Op) -> None:
        """What a subscriber's usage of all time costs."""
        answer = self.send(op, "GET", f"/usage?subscriber={op.subscriber}")
        if answer.outcome == "ok":
            op.set_result(answer.json["total_minor"])
