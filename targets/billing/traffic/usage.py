"""Call detail records of subscribers at home."""

from __future__ import annotations

from typing import Any

from harness.load.workload import Op, operation
from traffic.base import Traffic, started_at

UNRATABLE_SHARE = 0.01
UNITS = {"data": (10, 50_000), "voice": (10, 1_800), "sms": (1, 5)}  # kilobytes, seconds, messages
UNRATABLE = "telex"


def record(op: Op, service: str, units: int) -> dict[str, Any]:
    """The record of the operation, as a switch writes it."""
    return {
        "record_id": op.key,
        "subscriber": op.subscriber,
        "service": service,
        "units": units,
        "started_at": started_at(op),
    }


class UsageTraffic(Traffic):
    abstract = True

    @operation("usage")
    def usage(self, op: Op) -> None:
        """A call detail record of a subscriber at home."""
        service = op.rng.choice(sorted(UNITS))
        units = op.rng.randint(*UNITS[service])
        if op.rng.random() < UNRATABLE_SHARE:
            service = UNRATABLE
        op.set_detail({"service": service, "units": units})
        self.send(op, "POST", "/cdrs", record(op, service, units))
