"""When an outage begins and ends, who met it, and that nothing of it is lost while the database is away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from billing.common import Unavailable
from billing.edge.outages import BEGINS_AFTER_S, ENDS_AFTER_S, LOOK_BACK_S, Outages


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Database:
    """Keeps what is told; ``away``: refuses."""

    def __init__(self) -> None:
        self.away = False
        self.open: list[dict[str, Any]] = []  # left by an earlier incarnation
        self.begun: list[UUID] = []
        self.ended: list[UUID] = []
        self.met: set[int] = set()

    async def fetch(self, sql: str, **_: Any) -> list[dict[str, Any]]:
        if self.away:
            raise Unavailable("away")
        return self.open

    async def run(self, work: Any) -> None:
        if self.away:
            raise Unavailable("away")
        await work(self)

    async def fetchval(self, sql: str, outage: UUID, *args: Any) -> Any:
        if sql.startswith("select"):
            return len(self.met)
        kept = self.begun if sql.startswith("insert") else self.ended
        kept.append(outage)
        return kept.count(outage) == 1

    async def execute(self, sql: str, outage: UUID, subscribers: list[int]) -> None:
        self.met |= set(subscribers)


class Outbox:
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    async def add(self, session: Any, subject: str, event: dict[str, Any], event_id: UUID) -> None:
        self.sent.append((subject, event["affected"]))


class Scene:
    def __init__(self) -> None:
        self.clock, self.database, self.outbox = Clock(), Database(), Outbox()
        self.colour = "green"
        self.outages = Outages(
            ["payments"],
            lambda: {"payments": self.colour},  # type: ignore[dict-item]
            self.database,  # type: ignore[arg-type]
            self.outbox,  # type: ignore[arg-type]
            lambda *_, **__: None,  # type: ignore[arg-type]
            self.clock,
        )

    def pass_s(self, seconds: float, colour: str) -> None:
        """Look at once and then, all that time, twice a second."""
        self.colour = colour
        self.outages.look()
        for _ in range(int(seconds * 2)):
            self.clock.now += 0.5
            self.outages.look()

    def store(self) -> None:
        try:
            asyncio.run(self.outages.store_all())
        except Unavailable:
            assert self.database.away


def test_a_short_trouble_is_no_outage() -> None:
    scene = Scene()
    scene.pass_s(BEGINS_AFTER_S - 0.5, "red")
    scene.pass_s(10, "green")
    scene.store()
    assert scene.outbox.sent == []


def test_an_outage_has_a_beginning_an_end_and_those_who_met_it() -> None:
    scene = Scene()
    scene.outages.met("payments", 1)
    scene.clock.now += LOOK_BACK_S + 1  # long forgotten
    scene.outages.met("payments", 2)
    scene.pass_s(BEGINS_AFTER_S, "red")
    scene.store()
    scene.outages.met("payments", 3)
    scene.outages.met("nobody knows", 4)
    scene.pass_s(1, "red")
    scene.pass_s(ENDS_AFTER_S, "yellow")
    scene.store()
    scene.store()
    assert scene.outbox.sent == [("ops.outage.began", 0), ("ops.outage.ended", 2)]
    assert scene.database.met == {2, 3}


def test_a_relapse_belongs_to_the_same_outage() -> None:
    scene = Scene()
    scene.pass_s(BEGINS_AFTER_S, "red")
    scene.pass_s(ENDS_AFTER_S - 1, "green")
    scene.pass_s(1, "red")
    scene.pass_s(ENDS_AFTER_S, "green")
    scene.store()
    assert [subject for subject, _ in scene.outbox.sent] == ["ops.outage.began", "ops.outage.ended"]


def test_what_cannot_be_stored_is_kept() -> None:
    scene = Scene()
    scene.database.away = True
    scene.outages.met("payments", 7)
    scene.pass_s(BEGINS_AFTER_S, "red")
    scene.store()
    scene.pass_s(ENDS_AFTER_S, "green")
    scene.store()
    assert scene.database.begun == []
    scene.database.away = False
    scene.store()
    assert len(scene.database.begun) == 1 and scene.database.ended == scene.database.begun
    assert scene.database.met == {7}


def test_nobody_is_forgotten_while_an_outage_lasts() -> None:
    scene = Scene()
    scene.pass_s(BEGINS_AFTER_S, "red")
    scene.outages.met("payments", 7)
    scene.clock.now += 2 * LOOK_BACK_S  # nobody looked all that time
    scene.pass_s(1, "red")
    scene.store()
    assert scene.database.met == {7}


def test_what_was_left_open_goes_on_and_ends_once() -> None:
    scene = Scene()
    row = {"component": "payments", "began_at": datetime(2026, 1, 1, tzinfo=UTC)}
    scene.database.open = [{"id": UUID(int=1), **row}, {"id": UUID(int=2), **row}]
    scene.database.away = True
    scene.outages.met("payments", 7)
    scene.pass_s(BEGINS_AFTER_S, "red")  # seen while the database could not be asked: the same outage
    scene.store()
    scene.database.away = False
    scene.store()
    assert scene.database.ended == [UUID(int=2)] and scene.database.met == {7}
    scene.pass_s(ENDS_AFTER_S, "green")
    scene.store()
    assert scene.database.ended == [UUID(int=2), UUID(int=1)]
