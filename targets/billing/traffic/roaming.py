"""Records of visitors: a partner's subscribers who use our network."""

from __future__ import annotations

from harness.load.workload import Op, operation
from traffic.base import Traffic
from traffic.usage import UNITS, record

PARTNERS = ("alfa", "beta")


class RoamingTraffic(Traffic):
    abstract = True

    @operation("roaming")
    def roaming(self, op: Op) -> None:
        """A call detail record of a partner's subscriber who is visiting us."""
        partner = op.rng.choice(PARTNERS)
        service = op.rng.choice(sorted(UNITS))
        units = op.rng.randint(*UNITS[service])
        op.set_detail({"partner": partner, "service": service, "units": units})
        self.send(op, "POST", "/cdrs", {**record(op, service, units), "visitor_of": partner})
