"""Money that comes in by every channel: top-ups and what repeats them, invoices, vouchers, agents' receipts;
and top-ups that are given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from harness.load.workload import Answer, Arrival, Op, operation
from traffic.base import Traffic, started_at

DECLINED = 402
DECLINED_SHARE = 0.01  # the PSPs decline amounts that end in 13
POLL_S = 0.3
REMEMBERED = 2000
POSTPAID_EVERY = 5  # subscribers 5, 10, 15 ... are billed
REFUND_AGE_NS = 2_000_000_000
VOUCHERS = 20_000
AGENTS = 5
MOST_RECEIPTS = 20


def topup_amount(arrival: Arrival) -> int:
    """Minor units; the same for a top-up and for whoever repeats it."""
    hundreds, rest = divmod(arrival.amount_minor, 100)
    if arrival.rng("decline").random() < DECLINED_SHARE:
        return min(hundreds, 49) * 100 + 13
    return hundreds * 100 + (14 if rest == 13 else rest)


def voucher_code(arrival: Arrival) -> str:
    """The code that an operation redeems: one for each, while there are any."""
    return f"V-{(arrival.seq - 1) % VOUCHERS + 1:05d}"


@dataclass(frozen=True)
class Paid:
    """A top-up that was answered with success."""

    arrival: Arrival
    payment_id: str


class PaymentTraffic(Traffic):
    abstract = True

    # What all users share. Top-ups that were answered with success, oldest first, by key.
    acknowledged: ClassVar[dict[str, Paid]] = {}
    refunded: ClassVar[set[str]] = set()  # keys of top-ups that somebody asked to have back
    redeemed: ClassVar[dict[str, Arrival]] = {}  # by code, oldest first
    receipts: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {}  # by agent: not acknowledged yet, by number

    @operation("topup")
    def topup(self, op: Op) -> None:
        answer = self.pay(op, topup_amount(op.arrival))
        if op.outcome == "ok" and answer.status != DECLINED:
            self.acknowledged[op.key] = Paid(op.arrival, answer.json["payment_id"])
            forget_oldest(self.acknowledged)

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
            op.come_back_to(next(reversed(self.acknowledged.values())).arrival)
        original = topup_amount(op.earlier)
        other = original + (2 if original % 100 == 12 else 1)  # not one that is declined
        if self.pay(op, other).status == 422:
            op.conclude("ok")  # the answer that was due

    @operation("invoice_payment")
    def invoice_payment(self, op: Op) -> None:
        """A postpaid subscriber pays the open invoice that is due first, or a part of it."""
        op.act_for(max(POSTPAID_EVERY, op.subscriber - op.subscriber % POSTPAID_EVERY))
        question = op.ask("GET", f"/invoices?subscriber={op.subscriber}&state=issued")
        listed = question.json["invoices"] if question.outcome == "ok" else []
        due = [invoice for invoice in listed if invoice["paid_minor"] < invoice["total_minor"]]
        if not due:
            why = "no invoice is open" if question.outcome == "ok" else f"no invoices: {question.error}"
            op.conclude("fail", f"not sent: {why}")
            return
        first = min(due, key=lambda invoice: str(invoice["due_at"]))
        op.set_detail({"invoice_id": first["invoice_id"]})
        open_minor = first["total_minor"] - first["paid_minor"]
        self.pay(op, min(topup_amount(op.arrival), open_minor), f"/invoices/{first['invoice_id']}/payments")

    @operation("voucher")
    def voucher(self, op: Op) -> None:
        code = voucher_code(op.arrival)
        if self.redeem(op, code).outcome == "ok":
            self.redeemed[code] = op.arrival
            forget_oldest(self.redeemed)

    @operation("voucher_again", repeats="voucher", min_age_s=1.0)
    def voucher_again(self, op: Op) -> None:
        """The code of an acknowledged voucher under another key: it must be refused with 422, which
        makes the operation ``ok``. (One that was not acknowledged may be good still.)
        """
        if voucher_code(op.earlier) not in self.redeemed:
            if not self.redeemed:
                op.conclude("fail", "not sent: no voucher has been acknowledged yet")
                return
            op.come_back_to(next(reversed(self.redeemed.values())))
        op.take_key(f"{op.earlier.key}-{op.seq}")
        if self.redeem(op, voucher_code(op.earlier)).status == 422:
            op.conclude("ok")  # the answer that was due

    def redeem(self, op: Op, code: str) -> Answer:
        op.set_detail({"code": code})
        answer = self.send(op, "POST", "/vouchers/redeem", {"subscriber": op.subscriber, "code": code})
        if answer.outcome == "ok":
            op.set_ref(answer.json["payment_id"])
            op.set_result(answer.json["amount_minor"])
        return answer

    @operation("agent_payment")
    def agent_payment(self, op: Op) -> None:
        """An agent has taken cash, and hands in the receipt with those that nobody has acknowledged yet.

        It never fails: what is not acknowledged stays with the agent for a later batch.
        """
        agent, amount_minor = f"agent-{op.subscriber % AGENTS + 1}", topup_amount(op.arrival)
        op.set_amount(amount_minor)
        kept = self.receipts.setdefault(agent, {})
        carried = list(islice(kept, MOST_RECEIPTS - 1))
        kept[op.key] = {
            "receipt": op.key,
            "subscriber": op.subscriber,
            "amount_minor": amount_minor,
            "taken_at": started_at(op),
        }
        op.set_detail({"agent": agent, "carried": carried})
        batch = [kept[number] for number in [op.key, *carried]]
        answer = self.send(op, "POST", f"/agents/{agent}/receipts", {"receipts": batch})
        if answer.outcome != "ok":
            op.conclude("unknown")
            return
        stored = {*answer.json["accepted"], *answer.json["duplicates"]}
        if not stored.issuperset(receipt["receipt"] for receipt in batch):
            op.conclude("unknown", "answered ok, but not for each receipt")
        for number in stored:
            kept.pop(number, None)  # or another batch was faster

    @operation("refund", repeats="topup", min_age_s=2 * REFUND_AGE_NS / 1e9)
    def refund(self, op: Op) -> None:
        """A top-up that was acknowledged is given back; each is asked for once.

        None is asked for so early that the first top-ups alone could be given back: it would find none.
        """
        paid = self.refundable(op)
        if paid is None:
            op.conclude("fail", "not sent: no top-up is there to be given back")
            return
        self.refunded.add(paid.arrival.key)
        op.come_back_to(paid.arrival)
        op.take_key(f"{paid.arrival.key}-{op.seq}")
        op.set_amount(topup_amount(paid.arrival))
        op.set_ref(paid.payment_id)
        op.set_detail({"of": paid.arrival.key})
        path = f"/payments/{paid.payment_id}/refunds"
        answer = self.send(op, "POST", path, {}, pending=(202,))
        if answer.outcome == "ok":
            op.set_result(answer.json["amount_minor"])
        if answer.pending:
            self.follow(op, path)

    def refundable(self, op: Op) -> Paid | None:
        """The top-up that was drawn, or the newest other one that is old enough."""
        drawn = self.acknowledged.get(op.earlier.key)
        for paid in [*([drawn] if drawn else []), *reversed(self.acknowledged.values())]:
            age_ns = op.arrival.offset_ns - paid.arrival.offset_ns
            if paid.arrival.key not in self.refunded and age_ns >= REFUND_AGE_NS:
                return paid
        return None

    def pay(self, op: Op, amount_minor: int, path: str = "/topups") -> Answer:
        """Pay and, where the answer is 202, ask what became of it while the time lasts."""
        op.set_amount(amount_minor)
        body = {"subscriber": op.subscriber, "amount_minor": amount_minor}
        answer = self.send(op, "POST", path, body, pending=(202,))
        if answer.outcome == "ok" or answer.pending:
            op.set_ref(answer.json["payment_id"])
        if answer.outcome == "ok":
            op.set_result(answer.json["amount_minor"])
        if answer.pending:
            self.follow(op, f"/payments/{answer.json['payment_id']}")
        if answer.status == DECLINED and amount_minor % 100 == 13:
            op.conclude("ok")  # the answer that was due
        return answer

    def follow(self, op: Op, path: str) -> None:
        """Ask for what became of a payment or of its refund."""
        while op.pause(POLL_S):
            news = op.ask("GET", path)
            if news.outcome != "ok":
                continue
            state = news.json
            if state["status"] in ("settled", "done"):
                op.set_result(state["amount_minor"])
                op.conclude("ok")
                return
            if state["status"] == "failed":
                op.conclude("fail", "the payment failed")
                return


def forget_oldest(remembered: dict[str, Any]) -> None:
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
