"""Payments, charging and edge as real processes, against PostgreSQL, NATS and the PSP witnesses.

Money is counted three times in each test: by the client's answer, by the PSPs' logs, in the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import nats
import psycopg
import pytest
import requests

from billing.charging import balance, ledger
from billing.charging.credit import Debit, Till
from billing.common import Database, Limits, Log, Metrics, Unavailable
from harness.spawn import LocalChild, LocalSpawner
from tests.integration.billing_processes import Muffler

TARGET = Path(__file__).parents[2] / "targets" / "billing"
SUBSCRIBER = 901


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of ``holds``; fails when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


class Stack:
    """The processes, and what their outside shows."""

    def __init__(self, folder: Path, postgres_url: str) -> None:
        self.folder = folder
        self.spawner = LocalSpawner()
        self.children: dict[str, LocalChild] = {}
        self.database = psycopg.connect(postgres_url, autocommit=True)
        names = ("broker", "psp-a", "psp-b", "payments", "charging", "edge", "nowhere")
        self.ports = {name: _free_port() for name in names}
        self.host = postgres_url.split("@")[1].split("/")[0]
        self._pool = ThreadPoolExecutor(32)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, *names: str) -> None:
        for name in names:
            self.children[name] = self.spawner.spawn(
                name,
                self._argv(name),
                env=self._environment(name),
                cwd=TARGET,
                log=self.folder / f"{name}.log",
            )
        for name in names:
            if name != "broker":
                eventually(lambda name=name: self.ready(name), 10, f"{name} is ready")

    def ready(self, name: str) -> bool:
        try:
            return requests.get(f"{self.url(name)}/ready", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    def _argv(self, name: str) -> list[str]:
        if name == "broker":
            binary = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
            assert binary is not None, "no nats-server: install the extra 'stack'"
            data = str(self.folder / "nats")
            return [binary, "-a", "127.0.0.1", "-p", str(self.ports["broker"]), "-js", "-sd", data]
        module = "witnesses.psp" if name.startswith("psp") else f"billing.{name}"
        return [sys.executable, "-m", module]

    def _environment(self, name: str) -> dict[str, str]:
        # The first host accepts and closes at once or refuses: services must get past it.
        database = f"postgresql://{name}@127.0.0.1:{self.ports['nowhere']},{self.host}/billing"
        services = {
            f"{other.upper()}_URL": self.url("nowhere") for other in ("mediation", "notify", "roaming")
        }
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{TARGET / 'services'}:{TARGET}",
            "LISTEN": f"127.0.0.1:{self.ports[name]}",
            "DATABASE_URL": f"{database}?target_session_attrs=read-write",
            "REPLICA_URL": f"{database}?target_session_attrs=prefer-standby",
            "BROKER_URL": f"nats://127.0.0.1:{self.ports['broker']}",
            "PSP_A_URL": self.url("psp-a"),
            "PSP_B_URL": self.url("psp-b"),
            "PAYMENTS_URL": self.url("payments"),
            "CHARGING_URL": self.url("charging"),
            "LOG_FILE": str(self.folder / f"{name}.jsonl"),
            "PSP_NAME": name,
            **services,
        }

    def signal(self, name: str, number: int) -> None:
        self.children[name].signal(number)

    def silence_psp_a(self) -> None:
        """Once payments trusts it (again), so that the next payment goes there."""

        def trusted() -> bool:
            return bool(requests.get(f"{self.url('payments')}/metrics", timeout=2).json()["psp_a.available"])

        eventually(trusted, 5, "psp-a is preferred")
        self.signal("psp-a", signal.SIGSTOP)

    def top_up(self, amount_minor: int, key: str | None = None, at: str = "edge") -> requests.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"subscriber": SUBSCRIBER, "amount_minor": amount_minor}
        return requests.post(f"{self.url(at)}/topups", json=body, headers=headers, timeout=15)

    def debit(self, subscriber: int, amount_minor: int, key: str) -> requests.Response:
        body = {"type": "event", "subscriber": subscriber, "amount_minor": amount_minor, "service": "content"}
        url = f"{self.url('edge')}/credit-control"
        return requests.post(url, json=body, headers={"Idempotency-Key": key}, timeout=10)

    def balance(self, subscriber: int) -> int:
        url = f"{self.url('edge')}/accounts/{subscriber}/balance"
        return int(requests.get(url, timeout=5).json()["balance_minor"])

    def later(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(call, *args)

    def count(self, sql: str, *args: Any) -> Any:
        row = self.database.execute(sql, args).fetchone()
        assert row is not None
        return row[0]

    def state(self, key: str) -> str | None:
        row = self.database.execute("select state from payments.payment where key = %s", [key]).fetchone()
        return row[0] if row else None

    def captured(self, key: str) -> list[int]:
        """Amounts captured at any PSP under the client's key, by the witnesses' own logs."""
        lines = []
        for name in ("psp-a", "psp-b"):
            text = requests.get(f"{self.url(name)}/log", timeout=5).text
            lines += [json.loads(line) for line in text.splitlines()]
        return [
            e["amount_minor"] for e in lines if e["event"] == "capture" and e["merchant_reference"] == key
        ]

    def credited(self, key: str) -> list[int]:
        sql = """select p.amount_minor
                 from charging.posting p join charging.transaction t on t.id = transaction_id
                 where t.kind = 'topup' and t.key = %s and p.account_id = %s"""
        rows = self.database.execute(sql, [key, f"sub:{SUBSCRIBER}:main"]).fetchall()
        return [row[0] for row in rows]

    def all_events_applied(self) -> bool:
        waiting = self.count("select count(*) from payments.outbox where sent_at is null")
        missing = self.count(
            """select count(*) from payments.outbox o where subject = 'payment.settled' and not exists
               (select from charging.inbox i where i.event_id = o.event_id)"""
        )
        return bool(waiting == 0 and missing == 0)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for name in self.children:
            self.signal(name, signal.SIGCONT)
        self.spawner.close()
        self.database.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("core"), postgres_url)
    try:
        stack.start("broker", "psp-a", "psp-b", "payments", "charging", "edge")
        yield stack
    finally:
        stack.close()


async def _publish(url: str, subject: str, data: bytes) -> None:
    client = await nats.connect(url)
    await client.jetstream().publish(subject, data)
    await client.close()


@pytest.fixture(scope="module", autouse=True)
def poison(stack: Stack) -> None:
    """Two messages nobody can apply, ahead of all others; the last test looks what became of them."""
    broker = f"nats://127.0.0.1:{stack.ports['broker']}"
    nonsense = {"event_id": str(uuid4()), "psp": "psp_z", "payment_id": "x", "amount_minor": 1}
    for data in (b"\x00 no event", json.dumps(nonsense).encode()):
        asyncio.run(_publish(broker, "payment.settled", data))


@pytest.fixture(autouse=True)
def books_balance(stack: Stack) -> Iterator[None]:
    """After every test: all postings sum to 0, each balance is the sum of its postings, versions count up."""
    yield
    eventually(stack.all_events_applied, 10, "all events are in the ledger")
    assert stack.count("select sum(amount_minor) from charging.posting") == 0
    wrong = stack.count(
        """select count(*) from charging.account a join (
             select account_id, sum(amount_minor) total, max(account_version) newest, count(*) postings,
                    (array_agg(balance_after_minor order by account_version desc))[1] last_balance
             from charging.posting group by 1) p on p.account_id = a.id
           where a.balance_minor <> total or a.version <> newest or newest <> postings
              or last_balance <> total"""
    )
    assert wrong == 0


def key() -> str:
    return f"core-{uuid4()}"


def test_a_top_up_settles_and_is_credited_once(stack: Stack) -> None:
    mine = key()
    answer = stack.top_up(500, mine)
    assert (answer.status_code, answer.json()["status"]) == (201, "settled")
    eventually(lambda: stack.credited(mine), 5, "the credit")
    assert stack.captured(mine) == [500]
    assert stack.credited(mine) == [500]
    found = requests.get(f"{stack.url('edge')}/payments/{answer.json()['payment_id']}", timeout=5).json()
    assert (found["status"], found["amount_minor"]) == ("settled", 500)


def test_an_idempotency_key_stands_for_one_payment(stack: Stack) -> None:
    mine = key()
    answers = [f.result() for f in [stack.later(stack.top_up, 700, mine) for _ in range(8)]]
    assert {a.status_code for a in answers} <= {201, 409}
    first = stack.top_up(700, mine)
    assert first.status_code == 201
    assert all(a.json() == first.json() for a in answers if a.status_code == 201)
    assert stack.top_up(701, mine).status_code == 422
    assert stack.top_up(700).status_code == 400
    assert stack.captured(mine) == [700]
    declined = key()
    assert [stack.top_up(113, declined).status_code for _ in range(2)] == [402, 402]
    assert (stack.captured(declined), stack.credited(declined)) == ([], [])


def test_a_silent_psp_leaves_no_payment_in_doubt(stack: Stack) -> None:
    keys = [key() for _ in range(3)]
    stack.silence_psp_a()
    try:
        answers = [f.result() for f in [stack.later(stack.top_up, 900, k) for k in keys]]
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    assert [a.status_code for a in answers] == [202, 202, 202]
    eventually(lambda: all(stack.state(k) in ("settled", "failed") for k in keys), 6, "the inquiry's result")
    eventually(stack.all_events_applied, 5, "the credits")
    for k in keys:
        assert stack.captured(k) == stack.credited(k)
        assert stack.top_up(900, k).status_code == (201 if stack.credited(k) else 402)


def test_the_second_psp_takes_over_when_the_first_is_gone(stack: Stack) -> None:
    stack.signal("psp-a", signal.SIGKILL)
    stack.children["psp-a"].wait(5)
    keys = [key() for _ in range(8)]
    assert [stack.top_up(300, k).status_code for k in keys] == [201] * 8
    stack.start("psp-a")
    assert all(stack.captured(k) == [300] for k in keys)
    attempts = requests.get(f"{stack.url('payments')}/metrics", timeout=5).json()
    assert attempts["payments.failed_over"] < 8, "the breaker must keep later payments away from the dead PSP"


def test_killed_payments_resolves_what_it_left(stack: Stack) -> None:
    mine = key()
    stack.silence_psp_a()
    try:
        waiting = stack.later(stack.top_up, 400, mine)
        eventually(lambda: stack.state(mine) == "pending", 5, "the stored intent")
        stack.signal("payments", signal.SIGKILL)
        assert waiting.result().status_code == 502
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    stack.start("payments")
    eventually(lambda: stack.state(mine) in ("settled", "failed"), 9, "the resolution after the restart")
    eventually(stack.all_events_applied, 5, "its credit")
    assert stack.captured(mine) == stack.credited(mine)


def test_a_broker_that_falls_silent_and_dies_loses_nothing(stack: Stack) -> None:
    """Silent first, so that events are on their way to it, unconfirmed, when it dies."""

    def unconfirmed() -> bool:
        metrics = requests.get(f"{stack.url('payments')}/metrics", timeout=2).json()
        return bool(metrics.get("outbox.publish_failures"))

    stack.signal("broker", signal.SIGSTOP)
    keys = [key() for _ in range(10)]
    assert [stack.top_up(200, k).status_code for k in keys] == [201] * 10
    eventually(unconfirmed, 5, "a publication that nobody confirmed")
    stack.signal("broker", signal.SIGKILL)
    stack.children["broker"].wait(5)
    assert all(stack.credited(k) == [] for k in keys)
    stack.start("broker")
    eventually(lambda: all(stack.credited(k) == [200] for k in keys), 8, "the credits")


def test_debits_are_exact_under_concurrency_and_stop_at_the_limit(stack: Stack) -> None:
    subscriber = 902
    debit = partial(stack.debit, subscriber)
    keys = [key() for _ in range(30)]
    answers = [f.result() for f in [stack.later(debit, 4_000, k) for k in keys]]
    paid = [a for a in answers if a.status_code == 201]
    assert len(paid) == 25
    assert {a.status_code for a in answers} == {201, 402}
    assert sorted(a.json()["balance_minor"] for a in paid) == [4_000 * n for n in range(25)]
    again = debit(4_000, keys[0])
    assert (again.status_code, again.json()) == (answers[0].status_code, answers[0].json())
    assert debit(4_001, keys[0]).status_code == 422
    for read in ("primary", "replica"):
        url = f"{stack.url('edge')}/accounts/{subscriber}/balance?read={read}"
        answer = requests.get(url, timeout=5).json()
        assert (answer["balance_minor"], answer["version"]) == (0, 26)


def test_credits_and_debits_of_one_account_do_not_overwrite_each_other(stack: Stack) -> None:
    before = stack.balance(SUBSCRIBER)
    work = []
    for _ in range(40):
        work += [stack.later(stack.top_up, 30, key()), stack.later(stack.debit, SUBSCRIBER, 7, key())]
    assert {one.result().status_code for one in work} == {201}
    eventually(lambda: stack.balance(SUBSCRIBER) == before + 40 * (30 - 7), 5, "the sum of both")


def test_who_posts_second_sees_what_the_first_has_posted(stack: Stack) -> None:
    account = "sub:903:main"

    async def scenario() -> None:
        database = _database(stack.host, role="charging")
        async with database.transaction() as first:
            before = (await ledger.lock_accounts(first, [account]))[account].balance_minor
            second = asyncio.create_task(database.run(lambda s: ledger.lock_accounts(s, [account])))
            item = ledger.transfer("charge", key(), "k", 10, source=account, to="revenue:content")
            await asyncio.sleep(0.2)
            assert not second.done(), "the account is locked"
            await ledger.post(first, [item])
        assert (await second)[account].balance_minor == before - 10
        database.close()

    asyncio.run(scenario())


def test_a_debit_that_comes_again_while_it_is_committed_harms_nobody(stack: Stack) -> None:
    """As after a commit in doubt: the first try goes on in the database, the second shares its batch."""
    debit, other = Debit(key(), "f", 904, 10), Debit(key(), "f", 905, 10)

    async def scenario() -> None:
        database = _database(stack.host, role="charging")
        till = Till(database, Metrics())
        async with database.transaction() as first:
            before = await till.charge_batch(first, [debit])
            again = asyncio.create_task(database.run(lambda s: till.charge_batch(s, [debit, other])))
            await asyncio.sleep(0.2)
            assert not again.done(), "it waits for the first"
        replies = await again
        assert replies[debit.key] == before[debit.key]
        assert replies[other.key].status == 201
        database.close()

    asyncio.run(scenario())
    assert (stack.balance(904), stack.balance(905)) == (99_990, 99_990)


def test_a_balance_is_as_of_no_later_than_its_snapshot(stack: Stack) -> None:
    """What is committed between the snapshot and the answer is not in it; a standby goes by its heartbeat."""
    account = ledger.main_account(906)

    async def scenario() -> None:
        database = _database(stack.host, role="charging")
        async with database.session() as reading:
            await reading.execute("begin isolation level repeatable read")
            await reading.fetchval("select count(*) from account")  # takes the snapshot
            committed_after = await database.fetchval("select clock_timestamp()")
            assert stack.debit(906, 10, key()).status_code == 201
            row = await reading.fetchrow(balance._READ, account)
            assert row is not None and row["balance_minor"] == 100_000
            assert row["as_of"] < committed_after
            await reading.execute("commit")
            await reading.execute("begin read only")  # so is every transaction that begins on a standby
            row = await reading.fetchrow(balance._READ, account)
            assert row is not None and row["as_of"] == await reading.fetchval("select at from heartbeat")
            await reading.execute("rollback")
        database.close()

    asyncio.run(scenario())


def test_maintenance_refuses_writes_and_waits_for_those_under_way(stack: Stack) -> None:
    edge = stack.url("edge")
    mine = key()
    stack.silence_psp_a()
    try:
        under_way = stack.later(stack.top_up, 600, mine)
        eventually(lambda: stack.state(mine) == "pending", 5, "the payment under way")
        closing = stack.later(
            lambda: requests.put(f"{edge}/ops/mode", json={"mode": "maintenance"}, timeout=10)
        )
        eventually(
            lambda: requests.get(f"{edge}/status", timeout=1).json()["mode"] != "normal", 2, "the mode"
        )
        assert stack.top_up(1, key()).status_code == 503
        assert not closing.done()
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    closed = closing.result().json()
    assert under_way.done() and under_way.result().status_code in (201, 202)
    refusal = stack.top_up(1, key())
    assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "5")
    assert requests.get(f"{edge}/accounts/{SUBSCRIBER}/balance", timeout=5).status_code == 200
    page = requests.get(f"{edge}/status", timeout=5).json()
    assert (page["mode"], page["epoch"]) == ("maintenance", closed["epoch"])
    opened = requests.put(f"{edge}/ops/mode", json={"mode": "normal"}, timeout=5).json()
    assert opened["epoch"] > closed["epoch"]
    eventually(lambda: stack.state(mine) in ("settled", "failed"), 8, "the end of the payment")
    assert stack.top_up(100, key()).status_code == 201


def test_the_status_page_shows_a_silent_service(stack: Stack) -> None:
    def colour(name: str) -> str:
        return str(requests.get(f"{stack.url('edge')}/status", timeout=1).json()["components"][name])

    eventually(lambda: colour("charging") == "green", 5, "green at first")
    stack.signal("charging", signal.SIGSTOP)
    try:
        eventually(lambda: colour("charging") == "red", 2.5, "red")
        assert colour("payments") != "red"
    finally:
        stack.signal("charging", signal.SIGCONT)
    eventually(lambda: colour("charging") == "green", 5, "green again")


def test_a_drain_finishes_what_is_in_flight_and_refuses_the_rest(stack: Stack) -> None:
    mine = key()
    stack.silence_psp_a()
    try:
        under_way = stack.later(stack.top_up, 800, mine, "payments")
        eventually(lambda: stack.state(mine) == "pending", 5, "the payment under way")
        stack.signal("payments", signal.SIGTERM)
        eventually(lambda: not stack.ready("payments"), 1, "unready")
        refusal = stack.top_up(1, key(), "payments")
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    assert under_way.result().status_code in (201, 202)
    assert stack.children["payments"].wait(12) == 0
    stack.start("payments")
    eventually(lambda: stack.state(mine) in ("settled", "failed"), 8, "the end of the payment")


def test_what_cannot_be_applied_is_parked_and_can_be_replayed(stack: Stack) -> None:
    parked = "select count(*) from charging.dead_letter where attempts = 8 and replayed_at is null"
    eventually(lambda: stack.count(parked) == 2, 12, "both poisoned events are parked")
    mine, event_id = key(), str(uuid4())
    fields = {"payment_id": mine, "key": mine, "subscriber": SUBSCRIBER, "amount_minor": 50, "psp": "psp_a"}
    stack.database.execute(
        """insert into charging.dead_letter (event_id, consumer, subject, payload, attempts, error)
           values (%s, 'charging', 'payment.settled', %s, 8, 'a bug since mended')""",
        [event_id, json.dumps({"event_id": event_id, **fields})],
    )
    for expected in ({"replayed": 1, "failed": 2}, {"replayed": 0, "failed": 2}):
        answer = requests.post(f"{stack.url('charging')}/dlq/replay", timeout=10)
        assert answer.json() == {"charging": expected}
    assert stack.credited(mine) == [50]


def _database(hosts: str, role: str = "payments") -> Database:
    url = f"postgresql://{role}@{hosts}/billing?target_session_attrs=read-write"
    limits = Limits(size=2, checkout=1.0, connect=1.0, command=1.0)
    return Database(url, service="test", metrics=Metrics(), log=Log("test"), limits=limits)


def test_a_connection_is_found_past_a_silent_host_and_a_hollow_one(stack: Stack) -> None:
    """A dead server behind a proxy accepts and closes; a cut one accepts and says nothing."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def ask(silent_port: int) -> float:
        hollow = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        hollow_port = hollow.sockets[0].getsockname()[1]
        database = _database(f"127.0.0.1:{silent_port},127.0.0.1:{hollow_port},{stack.host}")
        began = time.monotonic()
        assert await database.fetchval("select 1") == 1
        database.close()
        hollow.close()
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(ask(silent.getsockname()[1])) < 0.7


def test_a_link_gone_silent_is_given_up_and_used_again_when_healed(stack: Stack) -> None:
    link = Muffler(upstream_port=int(stack.host.split(":")[1]))

    async def scenario() -> None:
        database = _database(f"127.0.0.1:{link.port}")
        assert await database.fetchval("select 1") == 1
        link.mute = True
        began = time.monotonic()
        with pytest.raises(TimeoutError):  # sent, and no answer: in doubt
            await database.fetchval("select 1")
        with pytest.raises(Unavailable):  # nothing sent
            await database.fetchval("select 1")
        assert time.monotonic() - began < 3.0
        link.mute = False
        assert await database.fetchval("select 1") == 1
        database.close()

    try:
        asyncio.run(scenario())
    finally:
        link.close()


def test_connections_to_a_server_turned_read_only_are_replaced(stack: Stack) -> None:
    """As after a failover whose old primary stays up: the pool must not stay with it."""

    async def scenario() -> None:
        database = _database(stack.host)
        backend = await database.fetchval("select pg_backend_pid()")
        await database.execute("set default_transaction_read_only = on")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await database.execute("update payment set failure = null where false")
        await database.execute("update payment set failure = null where false")
        assert await database.fetchval("select pg_backend_pid()") != backend
        database.close()

    asyncio.run(scenario())
