"""The rules of invoicing: what is owed, what an outage gives, what comes in, when dunning stands still."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from billing.common import Event, Log, Metrics
from billing.invoicing.billing_run import drafts
from billing.invoicing.dunning import BLIND_AFTER_S, Dunning
from billing.invoicing.events import item_of
from billing.invoicing.rules import Rules

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length_s", "given_minor"),
    [(0, 0), (2.999, 0), (3, 20), (60, 20), (60.001, 40), (119, 40), (121, 60)],
)
def test_each_minute_that_was_started_is_compensated(length_s: float, given_minor: int) -> None:
    assert Rules().compensation_minor(NOON, NOON + timedelta(seconds=length_s)) == given_minor


def test_rules_come_from_the_environment() -> None:
    rules = Rules.from_env({"DUE_AFTER_S": "0.5", "COMPENSATION_MINOR_PER_MINUTE": "7"})
    assert rules == Rules(due_after_s=0.5, compensation_minor_per_minute=7)
    for wrong in ("soon", "-1", "nan", ""):
        with pytest.raises(SystemExit, match="DUNNING_EVERY_S must be a number"):
            Rules.from_env({"DUNNING_EVERY_S": wrong})


def test_who_owes_nothing_in_all_gets_no_invoice() -> None:
    sums = [(5, "data", 30), (5, "voice", -10), (10, "data", 10), (10, "voice", -10), (15, "sms", -1)]
    owed = [
        {"subscriber": n, "service": s, "items": 1, "amount_minor": a} for n, s, a in [*sums, (20, "sms", 0)]
    ]
    (draft,) = drafts("P1", owed)
    assert (draft.subscriber, draft.total_minor) == (5, 20)
    assert [(line.line, line.service) for line in draft.lines] == [(1, "data"), (2, "voice")]
    assert draft.id == drafts("P1", owed)[0].id != drafts("P2", owed)[0].id


def usage(subject: str = "cdr.rated", **fields: Any) -> Event:
    known = {"record_id": "r", "rating": 1, "subscriber": 5, "service": "sms", "units": 2, "charge_minor": 10}
    currency = {"currency": "EUR"} if subject == "cdr.rated" else {}
    return Event(uuid4(), subject, {**known, "started_at": NOON.isoformat(), **currency, **fields})


def test_a_reversal_takes_back_what_its_rating_gave() -> None:
    assert item_of(usage()) == ("r", 1, "usage", 5, "sms", 2, 10, NOON)
    assert item_of(usage("cdr.reversed", rating=2)) == ("r", 2, "reversal", 5, "sms", 2, -10, NOON)


@pytest.mark.parametrize(
    "wrong",
    [
        {"currency": "USD"},
        {"charge_minor": -1},
        {"charge_minor": True},
        {"rating": 0},
        {"started_at": None},
        {"started_at": "2026-07-10T12:00:00"},
    ],
)
def test_what_cannot_be_billed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be a whole number|are billed in EUR|must be an instant"):
        item_of(usage(**wrong))


@pytest.mark.parametrize("missing", ["rating", "currency", "started_at"])
def test_what_an_event_does_not_say_is_not_guessed(missing: str) -> None:
    event = usage()
    del event.payload[missing]
    with pytest.raises(KeyError, match=missing):
        item_of(event)


class Session:
    """One invoice that is due; ``frozen``: what the database says."""

    def __init__(self) -> None:
        self.frozen: str | None = None
        self.steps = 0

    async def fetchval(self, sql: str, *args: Any) -> Any:
        return 1 if "admit" in sql else self.frozen

    async def fetch(self, sql: str, *args: Any) -> list[dict[str, Any]]:
        due = {"number": 1, "subscriber": 5, "step": 1, "open_minor": 9, "decided_at": NOON}
        return [{"id": UUID(int=1), **due}]

    async def execute(self, sql: str, *args: Any) -> None:
        self.steps += "dunning_step" in sql

    def after_commit(self, hook: Any) -> None:
        pass


class Outbox:
    async def add_all(self, session: Any, subject: str, payloads: Any) -> None:
        pass


def test_dunning_stands_still_in_an_outage_and_whenever_it_may_have_missed_one() -> None:
    now, session, rules = 100.0, Session(), Rules(dunning_grace_s=3.0)
    log = Log("test")
    dunning = Dunning(None, Outbox(), rules, Metrics(), log, clock=lambda: now)  # type: ignore[arg-type]

    def makes_a_step() -> bool:
        before = session.steps
        asyncio.run(dunning.remind_some(session))  # type: ignore[arg-type]
        return session.steps > before

    assert not makes_a_step()  # it has only just begun to look
    now += 1.5
    assert not makes_a_step()
    now += 1.5
    assert makes_a_step()
    session.frozen = "outage"
    now += 0.5
    assert not makes_a_step()
    session.frozen = None
    now += 0.5
    assert makes_a_step()
    now += BLIND_AFTER_S + 0.1  # the database could not be asked
    assert not makes_a_step()
    for _ in range(2):
        now += 1.5
        last = makes_a_step()
    assert last
