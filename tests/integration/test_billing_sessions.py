"""The till against a real database: sessions and debits in shared batches, a lockdown, what expires."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from billing.charging import ledger
from billing.charging.batches import Batches, Wanted
from billing.charging.books import Books
from billing.charging.expiry import Expiry
from billing.charging.requests import Debit, Initial, Reply, Report, Request
from billing.charging.till import Till, decide
from billing.common import Database, Limits, Log, Metrics, Outbox, Problem

Rows = Callable[..., list[Any]]
Scenario = Callable[[Till, Expiry], Awaitable[None]]


@pytest.fixture
def run(service_url: Callable[[str], str]) -> Callable[..., None]:
    """``run(scenario)``: with a till at work, and an expiry that sweeps when told."""

    def start(scenario: Scenario, *, validity_s: int = 10) -> None:
        async def whole() -> None:
            limits = Limits(size=4, checkout=2.0, connect=2.0, command=2.0)
            url = f"{service_url('charging')}?target_session_attrs=read-write"
            database = Database(url, service="test", metrics=Metrics(), log=Log("test"), limits=limits)
            batches = Batches(database, Outbox(), Metrics(), validity_s)
            till = Till(batches, Metrics())
            work = asyncio.create_task(till.run())
            try:
                await scenario(till, Expiry(database, batches, Metrics()))
            finally:
                work.cancel()
                database.close()

        asyncio.run(whole())

    return start


async def answers(till: Till, *requests: Request) -> list[Reply | Problem | BaseException]:
    """All at once, so that they share a batch."""
    return list(await asyncio.gather(*map(till.serve, requests), return_exceptions=True))


async def reply(till: Till, request: Request) -> Reply:
    return await till.serve(request)


def session_id() -> str:
    return f"session-{uuid4()}"


def test_a_session_is_charged_once_however_often_its_reports_come(
    run: Callable[..., None], rows: Rows
) -> None:
    mine = session_id()
    first = Initial(mine, "f", 841, "voice", 700)
    update, end = Report("update", mine, 1, "f", 650, 100), Report("terminate", mine, 2, "f", 40)

    async def scenario(till: Till, _: Expiry) -> None:
        assert (await reply(till, first)).body["granted_units"] == 700
        replies = await answers(till, update, update, Debit(session_id(), "f", 841, 5))
        assert [one.body for one in replies[:2] if isinstance(one, Reply)] == [
            {"charged_minor": 8, "granted_units": 100, "valid_s": 10}  # 50 x 0.15
        ] * 2
        assert (await reply(till, end)).body == {"charged_minor": 6, "used_units": 690}
        assert [one.body for one in (await reply(till, update), await reply(till, first))] == [
            {"charged_minor": 8, "granted_units": 100, "valid_s": 10},
            {"session_id": mine, "granted_units": 700, "valid_s": 10},
        ]

    run(scenario)
    moved = rows(
        """select kind, sum(amount_minor)::int, count(epoch) from charging.transaction t
           join charging.posting p on transaction_id = t.id and amount_minor > 0
           where t.key = %s group by 1 order by 1""",
        mine,
    )
    assert moved == [("release", 16, 0), ("reserve", 30, 2), ("session", 14, 0)]
    told = (
        "select payload->>'percent' from charging.outbox where payload->>'bucket' = '841:voice' order by id"
    )
    assert rows(told) == [("80",), ("100",)]
    assert rows("select balance_minor from charging.account where id = 'sub:841:reserved'") == [(0,)]


def test_a_lockdown_takes_what_was_used_and_admits_nothing(
    run: Callable[..., None], rows: Rows, postgres_url: str
) -> None:
    mine, other, paid = session_id(), session_id(), session_id()
    debit = Debit(paid, "f", 842, 5)

    def set_mode(mode: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("insert into edge.mode (mode) values (%s)", [mode])

    async def scenario(till: Till, _: Expiry) -> None:
        await answers(till, Initial(mine, "f", 842, "data", 100), debit)
        set_mode("lockdown")
        try:
            report, opened, again, new = await answers(
                till,
                Report("update", mine, 1, "f", 60, 100),
                Initial(other, "f", 842, "data", 100),
                debit,
                Debit(session_id(), "f", 842, 5),
            )
        finally:
            set_mode("normal")
        assert isinstance(report, Reply) and report.body["granted_units"] == 0
        assert isinstance(again, Reply) and again.status == 201, "what was done before is answered as before"
        for refusal in (opened, new):
            assert isinstance(refusal, Problem) and (refusal.status, refusal.retry_after_s) == (503, 5)
        assert (await reply(till, Initial(other, "f", 842, "data", 100))).status == 201
        await answers(till, *(Report("terminate", one, 2, "f", 0) for one in (mine, other)))

    run(scenario)
    assert rows("select used_units from charging.session where id = %s", mine) == [(60,)]


def test_what_was_given_up_expires_and_late_reports_are_charged_all_the_same(
    run: Callable[..., None], rows: Rows
) -> None:
    mine, kept = session_id(), session_id()

    async def scenario(till: Till, expiry: Expiry) -> None:
        await answers(till, Initial(mine, "f", 843, "voice", 700), Initial(kept, "f", 844, "voice", 10))
        assert await expiry.sweep() == 0
        await asyncio.sleep(1.1)
        assert await expiry.sweep() == 2
        assert await expiry.sweep() == 0
        held = rows("select reserved_units from charging.bucket where subscriber = 843 and service = 'voice'")
        assert held == [(0,)]
        late = await reply(till, Report("update", mine, 1, "f", 620, 50))
        assert late.body == {"charged_minor": 3, "granted_units": 0, "valid_s": 1}

    run(scenario, validity_s=1)
    ends = """select state, held_minor, charged_minor from charging.reservation
              where session_id = %s order by opened_at"""
    assert rows(ends, mine) == [("expired", 15, 0), ("posted", 3, 3)]
    assert rows("select state from charging.session where id = %s", mine) == [("expired",)]


class Meanwhile:
    """A decision for one debit, and what else is committed the first time that it is made."""

    def __init__(self, postgres_url: str, statement: str, *arguments: Any) -> None:
        self.debit = Debit(session_id(), "f", 845, 5)
        self.made: list[int | None] = []  # by the epoch that each was made under
        self._what = (postgres_url, statement, arguments)

    def __call__(self, books: Books) -> Reply | Problem:
        url, statement, arguments = self._what
        if not self.made:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(statement, arguments)
        self.made.append(books.epoch)
        return decide(books, [self.debit], 10)[self.debit.key]

    def settle(self, till: Till) -> Awaitable[Reply | Problem]:
        return till._batches.settle(Wanted([self.debit.subscriber], (), [self.debit.key]), self)


def test_what_was_decided_from_an_account_that_has_moved_is_decided_anew(
    run: Callable[..., None], rows: Rows, postgres_url: str
) -> None:
    topup = ledger.transfer("topup", session_id(), "k", 1000, source="psp_a:cash", to="sub:845:main")
    post = "select set_config('search_path', 'charging', false), charging.post(%s::jsonb, %s::jsonb)"
    meanwhile = Meanwhile(
        postgres_url, post, json.dumps(ledger.rows_of([topup])), json.dumps(ledger.legs_of([topup]))
    )

    async def scenario(till: Till, _: Expiry) -> None:
        answer = await meanwhile.settle(till)
        assert isinstance(answer, Reply) and answer.body["balance_minor"] == 100_000 + 1000 - 5

    run(scenario)
    assert len(meanwhile.made) == 2
    told = """select amount_minor, balance_after_minor from charging.posting
              where account_id = 'sub:845:main' order by account_version desc limit 2"""
    assert rows(told) == [(-5, 100_995), (1000, 101_000)]


def test_a_lockdown_that_comes_after_the_decision_undoes_it(
    run: Callable[..., None], rows: Rows, postgres_url: str
) -> None:
    meanwhile = Meanwhile(postgres_url, "insert into edge.mode (mode) values ('lockdown')")

    async def scenario(till: Till, _: Expiry) -> None:
        try:
            answer = await meanwhile.settle(till)
        finally:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                connection.execute("insert into edge.mode (mode) values ('normal')")
        assert isinstance(answer, Problem) and (answer.status, answer.retry_after_s) == (503, 5)

    run(scenario)
    assert [epoch is None for epoch in meanwhile.made] == [False, True]
    assert rows("select from charging.transaction where key = %s", meanwhile.debit.key) == []
    assert rows("select from charging.idempotency_key where key = %s", meanwhile.debit.key) == []


def test_a_mode_that_changes_after_the_decision_gives_its_own_epoch(
    run: Callable[..., None], rows: Rows, postgres_url: str
) -> None:
    meanwhile = Meanwhile(postgres_url, "insert into edge.mode (mode) values ('normal')")

    async def scenario(till: Till, _: Expiry) -> None:
        await meanwhile.settle(till)

    run(scenario)
    assert len(meanwhile.made) == 2
    kept = rows("select epoch from charging.transaction where key = %s", meanwhile.debit.key)
    assert kept == rows("select max(epoch) from edge.mode")
