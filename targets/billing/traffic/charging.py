"""Balances that are read, content that is charged, sessions of the access network."""

from __future__ import annotations

from typing import Any

from harness.load.workload import Answer, Op, operation
from traffic.base import Traffic

REPLICA_SHARE = 0.3
CONTENT = "content"
OVER_THE_LIMIT = 402

THIN = range(901, 1001)  # subscribers with little money and no credit
SPREE_MINOR = (20, 200)

GRANT_UNITS = {"data": (500, 4_000), "voice": (20, 180)}  # kilobytes, seconds: asked for at a time
ABANDONED_SHARE = 0.05
TRIES = 2  # of each request of a session


class Talk:
    """A session as its operation records it: what was asked, granted, reported, acknowledged, in order."""

    def __init__(self, op: Op, service: str) -> None:
        self.op = op
        self.service = service
        self.number = 0
        self.granted_units = 0
        self.asked: list[int] = []
        self.granted: list[int] = []
        self.reported: list[int] = []
        self.acknowledged = 0
        self.charged_minor = 0
        self.note()

    def ask(self, kind: str, *, used: int = 0, requested: int = 0) -> bool:
        """One request, and what came of it. False: the session is over, or no longer charged."""
        body: dict[str, Any] = {"type": kind, "session_id": self.op.key}
        if kind == "initial":
            body |= {"subscriber": self.op.subscriber, "service": self.service}
        else:
            self.number += 1
            body |= {"request_number": self.number, "used_units": used}
        if kind != "terminate":
            body["requested_units"] = requested
        self.asked.append(requested)
        self.reported.append(used)
        self.note()
        answer = self.op.request("POST", "/credit-control", json=body, attempts=self.op.attempts + TRIES)
        served = answer.outcome == "ok" and self.took(answer)
        self.note()
        if answer.outcome != "ok":
            if answer.retry_after is not None:
                self.op.set_detail({"retry_after": answer.retry_after})
            if kind != "initial":
                self.op.conclude("unknown", f"the {kind} had no good answer")
        return served

    def took(self, answer: Answer) -> bool:
        """Whether charging itself answered. What the access network granted by itself is noted, too."""
        found = answer.json
        self.granted_units = found.get("granted_units", 0)
        self.granted.append(self.granted_units)
        if "failure_handling" in found:
            self.op.set_detail({"failure_handling": found["failure_handling"]})
            return False
        self.acknowledged += 1
        self.charged_minor += found.get("charged_minor", 0)
        return True

    def note(self) -> None:
        self.op.set_result(sum(self.reported[: self.acknowledged]))
        self.op.set_detail(
            {
                "service": self.service,
                "asked": self.asked,
                "granted": self.granted,
                "reported": self.reported,
                "acknowledged": self.acknowledged,
                "charged_minor": self.charged_minor,
            }
        )


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
        self.debit(op, op.amount_minor)

    @operation("spree")
    def spree(self, op: Op) -> None:
        """A charge of somebody who has little: that it is refused may be the answer that is due."""
        op.act_for(op.rng.choice(THIN))
        if self.debit(op, op.rng.randint(*SPREE_MINOR)).status == OVER_THE_LIMIT:
            op.conclude("ok")

    def debit(self, op: Op, amount_minor: int) -> Answer:
        op.set_amount(amount_minor)
        op.set_detail({"service": CONTENT})
        body = {
            "type": "event",
            "subscriber": op.subscriber,
            "amount_minor": amount_minor,
            "service": CONTENT,
        }
        answer = self.send(op, "POST", "/credit-control", body)
        if answer.outcome == "ok":
            op.set_ref(answer.json["transaction_id"])
            op.set_result(answer.json["balance_minor"])
        return answer

    @operation("session")
    def session(self, op: Op) -> None:
        """Opened, extended once or twice, ended; some are given up, and end by their expiry.

        Where charging is away and the access network lets it go on, nobody is told what it uses.
        """
        service = op.rng.choice(sorted(GRANT_UNITS))
        talk = Talk(op, service)
        if not talk.ask("initial", requested=op.rng.randint(*GRANT_UNITS[service])):
            return
        for _ in range(op.rng.randint(1, 2)):
            used = op.rng.randint(talk.granted_units // 2, talk.granted_units)
            if not talk.ask("update", used=used, requested=op.rng.randint(*GRANT_UNITS[service])):
                return
            if talk.granted_units == 0:
                break
        if op.rng.random() < ABANDONED_SHARE:
            op.set_detail({"abandoned": True})
            return
        talk.ask("terminate", used=op.rng.randint(talk.granted_units // 2, talk.granted_units))
