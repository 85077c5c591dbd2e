"""Call detail records, of subscribers at home and of visitors."""

from __future__ import annotations

from harness.load.workload import Op, operation
from traffic.base import Traffic, started_at

UNRATABLE_SHARE = 0.01
PARTNERS = ("alfa", "beta")
UNITS = {"data": (10, 50_000), "voice": (10, 1_800), "sms": (1, 5)}  # kilobytes, seconds, messages
UNRATABLE = "telex"


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
        self.send_cdr(op, service, units)

    @operation("roaming")
    def roaming(self, op: Op) -> None:
        """A call detail record of a partner's subscriber who is visiting us."""
        partner = op.rng.choice(PARTNERS)
        service = op.rng.choice(sorted(UNITS))
        units = op.rng.randint(*UNITS[service])
        op.set_detail({"partner": partner, "service": service, "units": units})
        self.send_cdr(op, service, units, visitor_of=partner)

    def send_cdr(self, op: Op, service: str, units: int, **roamer: str) -> None:
        record = {
            "record_id": op.key,
            "subscriber": op.subscriber,
            "service": service,
            "units": units,
            "started_at": started_at(op),
            **roamer,
        }
        self.send(op, "POST", "/cdrs", record)
