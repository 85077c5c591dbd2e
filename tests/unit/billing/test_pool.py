"""The pool of connections, with hosts that answer, hang, refuse or change their role, in simulated time."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from billing.common import Database, Limits, Log, Metrics, Unavailable, database
from billing.common import pool as pools
from billing.common.hosts import DatabaseUrl
from billing.common.pool import Pool, Pooled

PRIMARY, STANDBY = "primary", "standby"


class Clock(selectors.DefaultSelector):
    """Nobody waits in real time: when all sleep, it is the next one's time at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "all wait, and nothing will wake them"
        self.now += max(0.0, timeout)
        return super().select(0)


class Connection:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.role = host.role
        self.closed = False
        host.opened += 1
        host.open += 1

    def get_settings(self) -> object:
        return SimpleNamespace(in_hot_standby="on" if self.role == STANDBY else "off")

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return False

    def terminate(self) -> None:
        assert not self.closed, "closed twice: counted twice"
        self.closed = True
        self.host.open -= 1


class Host:
    """``state``: what becomes of a connect that begins now: ``well``, ``silent`` or ``refuses``."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.state = "well"
        self.takes_s = 0.02
        self.attempts = self.opened = self.open = self.hanging = self.most_hanging = 0

    async def connect(self, timeout_s: float) -> Connection:
        self.attempts += 1
        if self.state == "refuses":
            raise ConnectionRefusedError("nobody listens")
        self.hanging += 1
        self.most_hanging = max(self.hanging, self.most_hanging)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(self.takes_s if self.state == "well" else 1e6)
        finally:
            self.hanging -= 1
        return Connection(self)


class World:
    """Two hosts, db-1 the primary, in a loop with a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.hosts = {"db-1": Host(PRIMARY), "db-2": Host(STANDBY)}
        self.db1, self.db2 = self.hosts.values()
        self.trouble: list[dict[str, Any]] = []
        monkeypatch.setattr(pools, "connect", self._connect)
        time = SimpleNamespace(monotonic=lambda: self.clock.now)
        monkeypatch.setattr(pools, "time", time)
        monkeypatch.setattr(database, "time", time)

    async def _connect(self, _: object, host: tuple[str, int], *, timeout_s: float, settings: object) -> Any:
        return await self.hosts[host[0]].connect(timeout_s)

    def url(self, wanted: str) -> str:
        return f"postgresql://t@db-1,db-2/billing?target_session_attrs={wanted}"

    def pool(
        self, wanted: str = "read-write", *, size: int = 8, connect_s: float = 1.5, age_s: float = 60
    ) -> Pool:
        return Pool(
            DatabaseUrl.parse(self.url(wanted)),
            size=size,
            connect_s=connect_s,
            age_s=age_s,
            settings={},
            metrics=Metrics(),
            log=Log("t"),
        )

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Nothing may be complained of, to the end of the loop."""
        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(scenario)
        assert self.trouble == []

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(self.clock)
        loop.time = lambda: self.clock.now  # type: ignore[method-assign]
        loop.set_exception_handler(lambda _, context: self.trouble.append(context))
        return loop


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def use(pool: Pool, patience_s: float, for_s: float = 0.01, *, clean: bool = True) -> str | None:
    """The role of the host whose connection was had; None: there was none in time."""
    try:
        pooled = await pool.take(patience_s)
    except TimeoutError:
        return None
    try:
        await asyncio.sleep(for_s)
        return role(pooled)
    finally:
        pool.give_back(pooled, clean=clean)


def role(pooled: Pooled) -> str:
    return pooled.connection.role  # type: ignore[no-any-return]


async def callers(pool: Pool, *, every_s: float, until_s: float, patience_s: float) -> list[str | None]:
    loop = asyncio.get_running_loop()
    calls = []
    while loop.time() < until_s:
        calls.append(asyncio.create_task(use(pool, patience_s)))
        await asyncio.sleep(every_s)
    return await asyncio.gather(*calls)


def test_a_silent_host_costs_one_attempt_at_a_time_however_many_call(world: World) -> None:
    """26 s without a primary, 20 calls a second."""

    async def scenario() -> None:
        pool = world.pool()
        world.db1.state = "silent"
        answers = await callers(pool, every_s=0.05, until_s=26, patience_s=1.5)
        assert set(answers) == {None}
        assert world.db1.most_hanging == 1
        assert 12 <= world.db1.attempts <= 20
        assert world.db2.open == 0, "a standby is of no use here"
        await asyncio.sleep(2)
        made = world.db1.attempts
        await asyncio.sleep(5)
        assert world.db1.attempts == made, "nobody waits any more"
        pool.close()

    world.run(scenario())


def test_a_host_that_goes_silent_is_left_alone_once_that_is_noticed(world: World) -> None:
    async def scenario() -> None:
        pool = world.pool()
        await asyncio.gather(*(use(pool, 1.5) for _ in range(8)))
        assert world.db1.most_hanging == pools.AT_ONCE, "while all is well"
        world.db1.state, world.db1.most_hanging = "silent", 0
        pool.suspect_all()
        await callers(pool, every_s=0.05, until_s=world.clock.now + 5, patience_s=1.5)
        assert world.db1.most_hanging == 1
        pool.close()

    world.run(scenario())


def test_a_new_primary_is_found_at_once_while_the_old_one_is_silent(world: World) -> None:
    async def scenario() -> None:
        for after_s in (1.6, 2.1, 3.0, 3.3, 4.9):
            pool = world.pool()
            world.db1.state, world.db2.role = "silent", STANDBY
            waiting = asyncio.create_task(use(pool, 10))
            await asyncio.sleep(after_s)
            assert not waiting.done()
            world.db2.role = PRIMARY
            began = world.clock.now
            assert await waiting == PRIMARY
            assert world.clock.now - began <= 0.6
            pool.close()

    world.run(scenario())


def test_a_connect_that_takes_longer_than_its_caller_waits_serves_the_next(world: World) -> None:
    """A network slow enough that no single caller would see it through."""

    async def scenario() -> None:
        pool = world.pool()
        world.db1.takes_s = 1.2
        assert await use(pool, 0.5) is None
        await asyncio.sleep(0.8)
        assert await use(pool, 0) == PRIMARY, "it is there, and costs no wait"
        assert world.db1.attempts == 1
        pool.close()

    world.run(scenario())


def test_connections_go_to_who_waits_longest(world: World) -> None:
    async def scenario() -> None:
        pool = world.pool(size=2)
        served: list[int] = []

        async def call(number: int) -> None:
            if await use(pool, 10, for_s=0.1) is not None:
                served.append(number)

        calls = [asyncio.create_task(call(number)) for number in range(12)]
        await asyncio.sleep(0.05)
        calls[4].cancel()
        await asyncio.sleep(0.3)
        calls.append(asyncio.create_task(call(12)))
        await asyncio.gather(*calls, return_exceptions=True)
        assert served == [0, 1, 2, 3, *range(5, 13)]
        assert world.db1.open == 2
        pool.close()

    world.run(scenario())


def test_a_place_that_comes_free_is_filled_for_who_waits(world: World) -> None:
    async def scenario() -> None:
        pool = world.pool(size=1)
        roles = await asyncio.gather(*(use(pool, 1.0, clean=False) for _ in range(8)))
        assert set(roles) == {PRIMARY}
        assert world.db1.opened == 8
        pool.close()

    world.run(scenario())


def test_a_connection_at_hand_costs_no_turn_of_the_loop(world: World) -> None:
    async def scenario() -> None:
        pool = world.pool()
        await use(pool, 1.5)
        taking = pool.take(1.5)
        with pytest.raises(StopIteration) as had:
            taking.send(None)
        pool.give_back(had.value.value)
        pool.close()

    world.run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_callers_and_hosts_do_no_slot_and_no_connection_is_lost(world: World, seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randint(1, 5)

    async def scenario() -> None:
        pool = world.pool(chance.choice(["read-write", "prefer-standby"]), size=size, age_s=2)
        calls = []
        for _ in range(400):
            clean = chance.random() < 0.8
            call = use(pool, chance.choice([0, 0.03, 0.3]), chance.choice([0, 0.05]), clean=clean)
            calls.append(asyncio.create_task(call))
            if chance.random() < 0.5:
                chance.choice(calls[-20:]).cancel()
            if chance.random() < 0.05:
                pool.suspect_all()
            for host in world.hosts.values():
                if chance.random() < 0.05:
                    host.state = chance.choice(["well", "well", "silent", "refuses"])
                    host.takes_s = chance.choice([0, 0.02, 0.3])
            assert pool._held <= size
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05]))
        await asyncio.gather(*calls, return_exceptions=True)
        world.db1.state = world.db2.state = "well"
        await asyncio.sleep(3)  # what hangs has ended
        taken = [await pool.take(3) for _ in range(size)]
        await asyncio.sleep(1)  # spares that were not needed have gone
        assert world.db1.open + world.db2.open == size == pool._held, "each place has its connection"
        assert await use(pool, 3) is None, "and there is no place more"
        for pooled in taken:
            pool.give_back(pooled)
        pool.close()
        await asyncio.sleep(1)
        assert world.db1.open + world.db2.open == 0

    world.run(scenario())


def test_a_silent_standby_keeps_nobody_from_the_primary_and_is_found_when_back(world: World) -> None:
    """With the limits of the replica's pool in charging."""

    async def scenario() -> None:
        pool = world.pool("prefer-standby", connect_s=0.5, age_s=10)
        world.db2.state = "silent"
        taken = await asyncio.gather(*(pool.take(0.5) for _ in range(4)))
        assert {role(pooled) for pooled in taken} == {PRIMARY}
        assert world.clock.now <= 0.02 + 0.02 + pools.SPARE_S + 0.02, "all four share the grace"
        for pooled in taken:
            pool.give_back(pooled)
        await asyncio.sleep(0.5)
        pool.suspect_all()
        began = world.clock.now
        assert await use(pool, 0.5) == PRIMARY
        assert world.clock.now - began <= 0.04, "a standby that has failed is not awaited"
        in_outage = await callers(pool, every_s=0.05, until_s=26, patience_s=0.5)
        assert set(in_outage) == {PRIMARY}
        assert world.db2.attempts <= 10
        world.db2.state = "well"
        after = await callers(pool, every_s=0.05, until_s=47, patience_s=0.5)
        assert None not in after
        assert set(after[-20:]) == {STANDBY}
        pool.close()

    world.run(scenario())


def test_the_standby_is_preferred_though_the_primary_answers_sooner(world: World) -> None:
    async def scenario() -> None:
        pool = world.pool("prefer-standby")
        world.db2.takes_s = 0.1
        roles = await asyncio.gather(*(use(pool, 1.5) for _ in range(8)))
        assert set(roles) == {STANDBY}
        await asyncio.sleep(1)
        assert world.db1.open == 0, "the spares are not kept"
        pool.close()

    world.run(scenario())


def test_a_pool_that_is_closed_leaves_nothing_behind(world: World) -> None:
    """Neither connections, nor tasks that the end of the loop complains of."""

    async def scenario() -> None:
        pool = world.pool("prefer-standby")
        pooled = await pool.take(1.5)
        world.db2.state = "silent"
        waiting = asyncio.create_task(pool.take(0.5))
        await asyncio.sleep(0.05)  # a spare is in hand now, and the standby silent
        pool.close()
        pool.give_back(pooled)
        with pytest.raises(TimeoutError):
            await waiting
        assert (world.db1.hanging, world.db2.hanging) == (0, 0)
        assert (world.db1.open, world.db2.open) == (0, 0)

    world.run(scenario())


def test_a_loop_that_ends_with_the_pool_at_work_complains_of_nothing(world: World) -> None:
    async def scenario() -> None:
        world.db1.state = "silent"
        waiting = asyncio.create_task(use(world.pool(), 1.5))
        await asyncio.sleep(0.05)
        assert not waiting.done()

    world.run(scenario())
    assert world.db1.hanging == 0


def test_who_gets_no_connection_in_time_is_told_that_nothing_was_sent(world: World) -> None:
    metrics = Metrics()

    async def scenario() -> None:
        world.db1.state = "refuses"
        limits = Limits(checkout=0.4)
        pool = Database(world.url("read-write"), service="t", metrics=metrics, log=Log("t"), limits=limits)
        with pytest.raises(Unavailable, match=r"within 0\.4 s"):
            await pool.fetchval("select 1")
        assert world.clock.now == pytest.approx(0.4)
        pool.close()

    world.run(scenario())
    assert metrics["database.checkout_timeouts"] == 1
    assert metrics["database.connect_failures"] == world.db1.attempts > 1
