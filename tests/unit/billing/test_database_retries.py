"""Retries of the database: within a budget and a deadline; and what an outage after a write may promise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from billing.common import Database, Limits, Log, Metrics, Outbox, Unavailable, database
from billing.common import pool as pools
from billing.common.problems import problem_for
from billing.payments.cashier import Cashier
from billing.payments.psp import Outcome
from billing.payments.store import Order, Payment, PaymentStore
from billing.roaming.service import Roaming

URL = "postgresql://payments@db-1:5432/billing"


class FakeConnection:
    """Every statement does what ``ask`` does; none outlives the server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def fetchval(self, *_: Any) -> Any:
        return await self._server.answer()

    fetchrow = fetch = execute = fetchval

    def is_closed(self) -> bool:
        return not self._server.reachable

    def is_in_transaction(self) -> bool:
        return False

    def get_settings(self) -> object:
        return object()

    def terminate(self) -> None:
        pass


class Server:
    """Counts the statements that reach it; does with them, and with connections, as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.reachable = True
        monkeypatch.setattr(pools, "connect", self._connect)

    async def _connect(self, *_: Any, **__: Any) -> FakeConnection:
        if not self.reachable:
            raise ConnectionRefusedError("the database has gone")
        return FakeConnection(self)

    async def answer(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.reachable = answer != "the last before it goes"
        if isinstance(answer, Exception):
            raise answer
        return 0 if answer == "the last before it goes" else answer


def pool(**limits: Any) -> tuple[Database, Metrics]:
    metrics = Metrics()
    limits = {"size": 4, "checkout": 0.1, **limits}
    return Database(URL, service="t", metrics=metrics, log=Log("t"), limits=Limits(**limits)), metrics


def test_retries_are_a_share_of_the_calls_however_long_the_database_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "backoff_s", lambda *_, **__: 0.0)
    server = Server(monkeypatch, ConnectionResetError("cut"))
    db, metrics = pool()

    async def scenario() -> None:
        for _ in range(100):
            with pytest.raises(ConnectionResetError):
                await db.fetchval("select 1", attempts=3)

    asyncio.run(scenario())
    retries = server.asked - 100
    assert 15 <= retries <= 5 + 15, "the stock, and 15 % of the calls"
    assert (metrics["database.retries"], metrics["database.retries_denied"] > 0) == (retries, True)


def test_tries_are_spaced_and_none_begins_after_the_call_s_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "backoff_s", lambda retry, **__: 0.08 * retry)
    server = Server(monkeypatch, ConnectionResetError("cut"))
    db, _ = pool(call=0.2)

    async def scenario() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionResetError):
            await db.run(lambda session: session.fetchval("select 1"), attempts=9)
        return asyncio.get_running_loop().time() - began

    assert 0.08 <= asyncio.run(scenario()) < 0.2
    assert server.asked == 2, "the pause before a third would have ended after the deadline"


def test_to_wait_on_for_a_connection_takes_nothing_from_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, 1)
    server.reachable = False
    db, metrics = pool(checkout=0.01)

    async def scenario() -> None:
        for _ in range(10):
            with pytest.raises(Unavailable):
                await db.fetchval("select 1", attempts=2)

    asyncio.run(scenario())
    assert (metrics["database.retries"], metrics["database.retries_denied"]) == (10, 0)


class OnePsp:
    name = "psp_a"
    available = True

    async def charge(self, _: Payment) -> Outcome:
        raise AssertionError("nobody may be charged for an intent that may not be stored")


class Request:
    match_info = {"period": "P1"}  # noqa: RUF012


class Waker:
    def wake(self) -> None:
        pass


def take(db: Database, metrics: Metrics) -> Awaitable[Any]:
    cashier = Cashier(PaymentStore(db, Outbox()), [OnePsp()], metrics, Log("t"))  # type: ignore[list-item]
    return cashier.take(Order("k", "f", 7, 500), lambda: True)


def settle(db: Database, _: Metrics) -> Awaitable[Any]:
    service: Any = type("Service", (), {"database": db})
    return Roaming(service, Waker()).settle(Request())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "answers"),
    [
        # The first try stored the intent, its reply is lost; the second finds the key taken.
        pytest.param(take, [ConnectionResetError("reply lost"), "the last before it goes"], id="top-up"),
        pytest.param(settle, ["the last before it goes"], id="settlement"),
    ],
)
def test_a_database_that_goes_after_the_write_leaves_an_unknown_and_no_refusal(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[Database, Metrics], Awaitable[Any]], answers: list[Any]
) -> None:
    server = Server(monkeypatch, *answers)
    db, metrics = pool(call=0.3)

    async def scenario() -> None:
        with pytest.raises(Exception) as raised:
            await ask(db, metrics)
        problem = problem_for(raised.value)
        assert (problem.status, problem.retry_after_s) == (504, None)
        server.reachable = False
        with pytest.raises(Unavailable) as refused:  # nothing was written: this one is a refusal
            await ask(db, metrics)
        assert problem_for(refused.value).status == 503

    asyncio.run(scenario())


def test_a_key_that_is_taken_and_not_there_is_no_refusal() -> None:
    """Our own intent may have been on the node that has gone."""

    class Forgetful(PaymentStore):
        async def open(self, *_: Any) -> bool:
            return False

        async def known(self, _: str) -> None:
            return None

    db, metrics = pool()
    cashier = Cashier(Forgetful(db, Outbox()), [OnePsp()], metrics, Log("t"))  # type: ignore[list-item]
    with pytest.raises(Exception) as raised:
        asyncio.run(cashier.take(Order("k", "f", 7, 500), lambda: True))
    assert problem_for(raised.value).status == 504
