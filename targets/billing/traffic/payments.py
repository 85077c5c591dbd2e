"""Top-ups: asked for, asked for again, and asked for with another amount under a used key."""

from __future__ import annotations

from typing import ClassVar

from harness.load.workload import Answer, Arrival, Op, operation
from traffic.base import Traffic

DECLINED = 402
DECLINED_SHARE = 0.01  # the PSPs decline amounts that end in 13
POLL_S = 0.3
REMEMBERED = 2000


def topup_amount(arrival: Arrival) -> int:
    """Minor units; the same for a top-up and for whoever repeats it."""
    hundreds, rest = divmod(arrival.amount_minor, 100)
    if arrival.rng("decline").random() < DECLINED_SHARE:
        return min(hundreds, 49) * 100 + 13
    return hundreds * 100 + (14 if rest == 13 else rest)


class PaymentTraffic(Traffic):
    abstract = True

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
