"""The load on the reference billing stack: what subscribers, switches and roaming partners send.

The contract is in README.md beside this file. All requests go to ``edge``; the kinds are those that
``compose.yaml`` groups into functions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

from harness.load.workload import Answer, Arrival, Op, Workload, operation

DECLINED_SHARE = 0.01  # the PSPs decline amounts that end in 13
UNRATABLE_SHARE = 0.01
REPLICA_SHARE = 0.3
POLL_S = 0.3
REMEMBERED = 2000
PARTNERS = ("alfa", "beta")
UNITS = {"data": (10, 50_000), "voice": (10, 1_800), "sms": (1, 5)}  # kilobytes, seconds, messages
UNRATABLE = "telex"


def topup_amount(arrival: Arrival) -> int:
    """Minor units; the same for a top-up and for whoever repeats it."""
    hundreds, rest = divmod(arrival.amount_minor, 100)
    if arrival.rng("decline").random() < DECLINED_SHARE:
        return min(hundreds, 49) * 100 + 13
    return hundreds * 100 + (14 if rest == 13 else rest)


def started_at(op: Op) -> str:
    return datetime.fromtimestamp(op.intended_ns / 1e9, UTC).isoformat(timespec="milliseconds")


class BillingWorkload(Workload):
    # Top-ups that were answered with success, oldest first, by key; shared by all users.
    acknowledged: ClassVar[dict[str, Arrival]] = {}

    @operation("topup")
    def topup(self, op: Op) -> None:
        self.pay(op, topup_amount(op.arrival))
        if op.outcome == "ok":
            self.acknowledged[op.key] = op.arrival
            if len(self.acknowledged) > REMEMBERED:
                del self.acknowledged[next(iter(self.acknowledged))]

    @operation("topup_replay", repeats="topup")
    def topup_replay(self, op: Op) -> None:
        """The same key and payload again, of a top-up that has ended or is still under way."""
        self.pay(op, topup_amount(op.earlier))

    @operation("topup_conflict", repeats="topup", min_age_s=1.0)
    def topup_conflict(self, op: Op) -> None:
        """The key of an acknowledged top-up with another amount: it must be refused with 422.

        An original that may never have arrived would make this the first with its key, and rightly
        accepted; so where the one drawn was not acknowledged, the newest that was takes its place.
        """
        if op.key not in self.acknowledged:
            if not self.acknowledged:
                op.conclude("fail", "not sent: no top-up has been acknowledged yet")
                return
            op.come_back_to(next(reversed(self.acknowledged.values())))
        original = topup_amount(op.earlier)
        op.set_detail({"original_amount_minor": original})
        self.pay(op, original + (2 if original % 100 == 12 else 1))  # not one that is declined

    @operation("balance")
    def balance(self, op: Op) -> None:
        read = "replica" if op.rng.random() < REPLICA_SHARE else "primary"
        op.set_detail({"read": read})
        answer = op.request("GET", f"/accounts/{op.subscriber}/balance?read={read}")
        if answer.outcome == "ok":
            found = answer.json
            op.set_result(found["balance_minor"])
            op.set_detail({"read": read, "version": found["version"], "as_of": found["as_of"]})

    @operation("charge")
    def charge(self, op: Op) -> None:
        op.set_amount(op.amount_minor)
        body = {
            "type": "event",
            "subscriber": op.subscriber,
            "amount_minor": op.amount_minor,
            "service": "content",
        }
        answer = op.request("POST", "/credit-control", json=body, headers={"Idempotency-Key": op.key})
        if answer.outcome == "ok":
            op.set_ref(answer.json["transaction_id"])
            op.set_result(answer.json["balance_minor"])

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

    # --- how it is sent -------------------------------------------------------------------------
    def pay(self, op: Op, amount_minor: int) -> None:
        op.set_amount(amount_minor)
        answer = op.request(
            "POST",
            "/topups",
            json={"subscriber": op.subscriber, "amount_minor": amount_minor},
            headers={"Idempotency-Key": op.key},
            pending=(202,),
        )
        if answer.outcome == "ok" or answer.pending:
            op.set_ref(answer.json["payment_id"])
        if answer.pending:
            self.follow(op, answer)

    def follow(self, op: Op, answer: Answer) -> None:
        """Ask what became of a pending payment while the operation's time lasts."""
        path = f"/payments/{answer.json['payment_id']}"
        while op.pause(POLL_S):
            news = op.ask("GET", path)
            status = news.json["status"] if news.outcome == "ok" else "pending"
            if status == "settled":
                op.conclude("ok")
                return
            if status == "failed":
                op.conclude("fail", "the payment failed")
                return

    def send_cdr(self, op: Op, service: str, units: int, **roamer: str) -> None:
        record = {
            "record_id": op.key,
            "subscriber": op.subscriber,
            "service": service,
            "units": units,
            "started_at": started_at(op),
            **roamer,
        }
        op.request("POST", "/cdrs", json=record)
