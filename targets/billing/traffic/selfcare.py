"""What customers ask selfcare: balance and tariff by short code, and the catalogue."""

from __future__ import annotations

from harness.load.workload import Op, operation
from traffic.base import Traffic

WAY_IN = "selfcare"
BALANCE, TARIFF = "*100#", "*200#"


class SelfcareTraffic(Traffic):
    abstract = True

    @operation("ussd_balance")
    def ussd_balance(self, op: Op) -> None:
        """A balance; where charging is silent, the last one that was heard, and its age."""
        answer = op.request("POST", "/ussd", json={"subscriber": op.subscriber, "code": BALANCE}, via=WAY_IN)
        if answer.outcome == "ok":
            op.set_result(answer.json["balance_minor"])
            op.set_detail({"as_of": answer.json["as_of"]})

    @operation("ussd_tariff")
    def ussd_tariff(self, op: Op) -> None:
        answer = op.request("POST", "/ussd", json={"subscriber": op.subscriber, "code": TARIFF}, via=WAY_IN)
        if answer.outcome == "ok":
            op.set_detail({"as_of": answer.json["as_of"]})

    @operation("catalogue")
    def catalogue(self, op: Op) -> None:
        answer = op.request("GET", "/catalogue", via=WAY_IN)
        if answer.outcome == "ok":
            op.set_result(len(answer.json["tariffs"]))
            op.set_detail({"as_of": answer.json["as_of"]})
