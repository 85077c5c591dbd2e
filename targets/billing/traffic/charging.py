"""Balances that are read, and content that is charged."""

from __future__ import annotations

from harness.load.workload import Op, operation
from traffic.base import Traffic

REPLICA_SHARE = 0.3
CONTENT = "content"


class ChargingTraffic(Traffic):
    abstract = True

    @operation("balance")
    def balance(self, op: Op) -> None:
        read = "replica" if op.rng.random() < REPLICA_SHARE else "primary"
        op.set_detail({"read": read})
        answer = self.send(op, "GET", f"/accounts/{op.subscriber}/balance?read={read}")
        if answer.outcome == "ok":
            found = answer.json
            op.set_result(found["balance_minor"])
            op.set_detail({"version": found["version"], "as_of": found["as_of"]})

    @operation("charge")
    def charge(self, op: Op) -> None:
        op.set_amount(op.amount_minor)
        op.set_detail({"service": CONTENT})
        body = {
            "type": "event",
            "subscriber": op.subscriber,
            "amount_minor": op.amount_minor,
            "service": CONTENT,
        }
        answer = self.send(op, "POST", "/credit-control", body)
        if answer.outcome == "ok":
            op.set_ref(answer.json["transaction_id"])
            op.set_result(answer.json["balance_minor"])
