"""Roaming authorisation: who may, and what is said while no database answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from billing.charging.roamers import Decision, Roamers, decide
from billing.common import Database, Metrics, Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_who_may_roam() -> None:
    assert decide(1, True, NOW).authorised
    for spendable_minor, agreed in ((0, True), (-5, True), (None, True), (1, False)):
        decision = decide(spendable_minor, agreed, NOW)
        assert not decision.authorised and decision.reason and decision.as_of == NOW


class Answers:
    """A database that has one row, until it is gone."""

    def __init__(self, spendable_minor: int, lag_s: float = 0) -> None:
        self.row: dict[str, Any] | None = {
            "spendable_minor": spendable_minor,
            "agreed": True,
            "as_of": NOW - timedelta(seconds=lag_s),
            "lag_s": lag_s,
        }

    async def fetchrow(self, *_: object) -> dict[str, Any]:
        if self.row is None:
            raise Unavailable("gone")
        return self.row


def test_the_last_answer_stands_while_nothing_can_be_read() -> None:
    primary, replica, metrics = Answers(0), Answers(5), Metrics()
    roamers = Roamers(cast(Database, primary), cast(Database, replica), lambda: True, metrics)

    def ask(subscriber: int) -> Decision | None:
        return asyncio.run(roamers._decide(subscriber, "alfa"))

    first = ask(7)
    assert first is not None and first.authorised
    replica.row = None
    from_primary = ask(8)
    assert from_primary is not None and not from_primary.authorised
    primary.row = None
    assert ask(7) == first and ask(8) == from_primary and ask(9) is None
    assert metrics["roamers.from_memory"] == 3


def test_a_replica_that_is_far_behind_is_left_for_the_primary() -> None:
    primary, replica = Answers(0), Answers(5, lag_s=2.5)
    roamers = Roamers(cast(Database, primary), cast(Database, replica), lambda: True, Metrics())

    def ask(subscriber: int) -> Decision | None:
        return asyncio.run(roamers._decide(subscriber, "alfa"))

    denied = ask(7)
    assert denied is not None and not denied.authorised
    primary.row = None
    assert ask(7) == denied  # newer than what the replica says
    stale = ask(8)
    assert stale is not None and stale.authorised and stale.as_of == NOW - timedelta(seconds=2.5)
