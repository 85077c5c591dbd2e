"""The load on the reference billing stack: what subscribers, switches and roaming partners send.

The contract, and what is recorded of each kind, is in README.md beside this file. All requests go to
``edge``; the kinds are those that ``compose.yaml`` groups into functions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from harness.load.workload import Answer, Arrival, Op, Workload, operation

DECLINED = 402
DECLINED_SHARE = 0.01  # the PSPs decline amounts that end in 13
UNRATABLE_SHARE = 0.01
REPLICA_SHARE = 0.3
POLL_S = 0.3
REMEMBERED = 2000
PARTNERS = ("alfa", "beta")
UNITS = {"data": (10, 50_000), "voice": (10, 1_800), "sms": (1, 5)}  # kilobytes, seconds, messages
UNRATABLE = "telex"
CONTENT = "content"


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
        answer = self.pay(op, topup_amount(op.arrival))
        if op.outcome == "ok" and answer.status != DECLINED:
            self.acknowledged[op.key] = op.arrival
            if len(self.acknowledged) > REMEMBERED:
                del self.acknowledged[next(iter(self.acknowledged))]

    @operation("topup_replay", repeats="topup")
    def topup_replay(self, op: Op) -> None:
        """The same key and payload again, of a top-up that has ended or is still under way."""
        self.pay(op, topup_amount(op.earlier))

    @operation("topup_conflict", repeats="topup", min_age_s=1.0)
    def topup_conflict(self, op: Op) -> None:
        """The key of an acknowledged top-up with another amount: it must be refused with 422,
        which makes the operation ``ok``.

        An original that may never have arrived would make this the first with its key, and rightly
        accepted; so where the one drawn was not acknowledged, the newest that was takes its place.
        """
        if op.key not in self.acknowledged:
            if not self.acknowledged:
                op.conclude("fail", "not sent: no top-up has been acknowledged yet")
                return
            op.come_back_to(next(reversed(self.acknowledged.values())))
        original = topup_amount(op.earlier)
        other = original + (2 if original % 100 == 12 else 1)  # not one that is declined
        if self.pay(op, other).status == 422:
            op.conclude("ok")  # the answer that was due

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
    def send(
        self,
        op: Op,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        pending: tuple[int, ...] = (),
    ) -> Answer:
        headers = {"Idempotency-Key": op.key} if body else None
        answer = op.request(method, path, json=body, headers=headers, pending=pending)
        if answer.retry_after is not None:
            op.set_detail({"retry_after": answer.retry_after})
        return answer

    def pay(self, op: Op, amount_minor: int) -> Answer:
        """Top up and, where the answer is 202, ask what became of it while the time lasts."""
        op.set_amount(amount_minor)
        body = {"subscriber": op.subscriber, "amount_minor": amount_minor}
        answer = self.send(op, "POST", "/topups", body, pending=(202,))
        if answer.outcome == "ok" or answer.pending:
            op.set_ref(answer.json["payment_id"])
        if answer.outcome == "ok":
            op.set_result(answer.json["amount_minor"])
        if answer.pending:
            self.follow(op, answer.json["payment_id"])
        if answer.status == DECLINED and amount_minor % 100 == 13:
            op.conclude("ok")  # the answer that was due
        return answer

    def follow(self, op: Op, payment_id: str) -> None:
        while op.pause(POLL_S):
            news = op.ask("GET", f"/payments/{payment_id}")
            if news.outcome != "ok":
                continue
            payment = news.json
            if payment["status"] == "settled":
                op.set_result(payment["amount_minor"])
                op.conclude("ok")
                return
            if payment["status"] == "failed":
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
        self.send(op, "POST", "/cdrs", record)
