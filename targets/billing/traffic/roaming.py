"""Roaming both ways: records of a partner's subscribers who visit us; ours who want to use a partner's."""

from __future__ import annotations

from harness.load.workload import Op, operation
from traffic.base import Traffic
from traffic.usage import UNITS, record

PARTNERS = ("alfa", "beta")
ENDED = "gamma"  # the agreement with it has ended
ENDED_SHARE = 0.05


class RoamingTraffic(Traffic):
    abstract = True

    @operation("roaming")
    def roaming(self, op: Op) -> None:
        """A call detail record of a partner's subscriber who is visiting us."""
        partner = op.rng.choice(PARTNERS)
        service = op.rng.choice(sorted(UNITS))
        body = {**record(op, service, op.rng.randint(*UNITS[service])), "visitor_of": partner}
        op.set_detail(
            {"partner": partner, **{name: body[name] for name in ("service", "units", "started_at")}}
        )
        self.send(op, "POST", "/cdrs", body)

    @operation("roaming_auth")
    def roaming_auth(self, op: Op) -> None:
        """A partner's network asks whether a subscriber of ours may use it."""
        partner = ENDED if op.rng.random() < ENDED_SHARE else op.rng.choice(PARTNERS)
        op.set_detail({"partner": partner})
        body = {"subscriber": op.subscriber, "partner": partner}
        answer = self.send(op, "POST", "/roaming/authorisations", body)
        if answer.outcome == "ok":
            op.set_result(int(answer.json["authorised"]))
            op.set_detail({"as_of": answer.json["as_of"]})
