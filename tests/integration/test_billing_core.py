"""Payments, charging and edge as real processes, against PostgreSQL, NATS and the PSP witnesses.

Money is counted three times in each test: by the client's answer, by the PSPs' logs, in the ledger.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import nats
import pytest
import requests

from billing.charging import balance, ledger, roamers
from billing.charging.batches import Batches
from billing.charging.requests import Debit, Initial, Reply, Report, Request
from billing.charging.till import Replies, Till
from billing.common import Database, Metrics, Outbox, Session
from tests.integration.billing_core_stack import SUBSCRIBER, Stack, impatient_database
from tests.integration.billing_processes import eventually


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
    eventually("all events are in the ledger", stack.all_events_applied, within_s=10)
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
    eventually("the credit", lambda: stack.credited(mine), within_s=5)
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


def test_a_voucher_is_good_once_whoever_brings_it_however_often(stack: Stack) -> None:
    keys = [key() for _ in range(6)]
    answers = [f.result() for f in [stack.later(stack.redeem, "V-00007", k) for k in keys]]
    assert sorted(a.status_code for a in answers) == [201] + [422] * 5
    first = next(a for a in answers if a.status_code == 201)
    mine = keys[answers.index(first)]
    assert first.json()["amount_minor"] == 1000
    assert stack.redeem("V-00007", mine).json() == first.json()
    assert stack.redeem("V-00008", mine).status_code == 422, "the key stands for another voucher"
    assert stack.redeem("V-99999", key()).status_code == 422
    eventually("the credit", lambda: stack.credited(mine, "voucher"), within_s=5)
    assert [stack.credited(k, "voucher") for k in keys] == [[1000] if k == mine else [] for k in keys]
    assert stack.redeem("V-00008", key()).status_code == 201, "a refusal uses nothing up"


def test_a_receipt_is_one_payment_in_however_many_batches(stack: Stack) -> None:
    one, two, three = key(), key(), key()
    batches = ([one, two], [two, three], [one, two, three])
    answers = [f.result() for f in [stack.later(stack.hand_in, *batch) for batch in batches]]
    assert [a.status_code for a in answers] == [200] * 3
    accepted = [number for a in answers for number in a.json()["accepted"]]
    assert sorted(accepted) == sorted([one, two, three])
    assert sorted(answers[2].json()["accepted"] + answers[2].json()["duplicates"]) == sorted(batches[2])
    four = key()
    assert stack.hand_in(four, one, amount_minor=451).status_code == 422
    eventually("the credits", stack.all_events_applied, within_s=5)
    assert [stack.credited(r, "agent") for r in (one, two, three, four)] == [[450]] * 3 + [[]]


def test_what_is_given_back_is_given_back_once_and_told(stack: Stack) -> None:
    paid, mine = key(), key()
    payment_id = stack.top_up(600, paid, at="payments").json()["payment_id"]
    answers = [f.result() for f in [stack.later(stack.give_back, payment_id, mine) for _ in range(4)]]
    assert {a.status_code for a in answers} <= {201, 202}
    eventually("the refund", lambda: stack.give_back(payment_id, mine).status_code == 201, within_s=8)
    assert stack.give_back(payment_id, key()).status_code == 422
    voucher = stack.redeem("V-00009", key()).json()["payment_id"]
    assert stack.give_back(voucher, key()).status_code == 422, "no provider holds it"
    invoice = stack.pay_invoice(650, key())
    assert (invoice.status_code, stack.give_back(invoice.json()["payment_id"], key()).status_code) == (
        201,
        422,
    )
    eventually("the debit", lambda: stack.credited(paid, "refund"), within_s=5)
    assert (stack.captured(paid), stack.captured(paid, "refund")) == ([600], [600])
    assert stack.credited(paid, "refund") == [-600]
    told = "select array_agg(event order by event) from payments.psp_callback where key = %s"
    both = ["captured", "refunded"]
    eventually("both call-backs", lambda: stack.count(told, payment_id) == both, within_s=10)
    unsigned = requests.post(f"{stack.url('payments')}/psp/callback", json={}, timeout=5)
    assert unsigned.status_code == 401


def test_a_lockdown_is_kept_by_every_channel_and_by_the_refunds_worker(stack: Stack) -> None:
    before, mine, receipt = key(), key(), key()
    assert stack.hand_in(receipt, at="payments").status_code == 200
    payment_id = stack.top_up(700, before, at="payments").json()["payment_id"]
    psp = stack.count("select psp from payments.payment where id = %s", payment_id).replace("_", "-")
    stack.signal(psp, signal.SIGKILL)
    stack.children[psp].wait(5)
    try:
        assert stack.give_back(payment_id, mine).status_code == 202
        stack.change_mode("lockdown")
    finally:
        stack.start(psp)
    try:
        refused = [
            stack.top_up(500, key(), at="payments"),
            stack.redeem("V-00010", key(), at="payments"),
            stack.hand_in(key(), receipt, at="payments"),
            stack.give_back(payment_id, key(), at="payments"),
        ]
        assert [(a.status_code, a.headers.get("Retry-After")) for a in refused] == [(503, "5")] * 4
        assert stack.top_up(700, before, at="payments").status_code == 201, "what was done is said"
        assert stack.hand_in(receipt, at="payments").json()["duplicates"] == [receipt]
        tries = stack.count("select tries from payments.refund where key = %s", mine)
        time.sleep(2.5)  # in which the worker would have asked twice
        assert stack.count("select tries from payments.refund where key = %s", mine) == tries
        assert stack.captured(before, "refund") == []
    finally:
        stack.change_mode("normal")
    eventually("the refund", lambda: stack.give_back(payment_id, mine).status_code == 201, within_s=15)
    assert stack.captured(before, "refund") == [700]


def test_a_silent_psp_leaves_no_payment_in_doubt(stack: Stack) -> None:
    keys = [key() for _ in range(3)]
    stack.silence_psp_a()
    try:
        answers = [f.result() for f in [stack.later(stack.top_up, 900, k) for k in keys]]
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    assert [a.status_code for a in answers] == [202, 202, 202]
    eventually(
        "the inquiry's result", lambda: all(stack.state(k) in ("settled", "failed") for k in keys), within_s=6
    )
    eventually("the credits", stack.all_events_applied, within_s=5)
    for k in keys:
        assert stack.captured(k) == stack.credited(k)
        assert stack.top_up(900, k).status_code == (201 if stack.credited(k) else 402)


_UNRESOLVED = """
with p as (insert into payments.payment (id, key, subscriber, amount_minor, state, epoch, next_inquiry_at)
           select gen_random_uuid(), %(key)s || n, %(subscriber)s, 500, 'unknown', 1, '2020-01-01'
           from generate_series(1, %(many)s) n returning id, key),
     k as (insert into payments.idempotency_key (key, fingerprint, payment_id) select key, '', id from p)
insert into payments.psp_attempt (payment_id, psp, state, epoch) select id, %(psp)s, 'unknown', 1 from p"""


def test_what_one_psp_does_not_tell_keeps_no_other_payment_waiting(stack: Stack) -> None:
    mine = key()
    stack.silence_psp_a()
    try:
        for psp, many in (("psp_a", 20), ("psp_b", 1)):
            named = {"key": f"{mine}-{psp}-", "subscriber": SUBSCRIBER, "many": many, "psp": psp}
            stack.database.execute(_UNRESOLVED, named)
        eventually("psp-b's", lambda: stack.state(f"{mine}-psp_b-1") == "failed", within_s=2.5)
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    left = "select count(*) from payments.payment where state = 'unknown'"
    eventually("psp-a's", lambda: stack.count(left) == 0, within_s=6)


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
        eventually("the stored intent", lambda: stack.state(mine) == "pending", within_s=5)
        stack.signal("payments", signal.SIGKILL)
        assert waiting.result().status_code == 502
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    stack.start("payments")
    eventually(
        "the resolution after the restart", lambda: stack.state(mine) in ("settled", "failed"), within_s=9
    )
    eventually("its credit", stack.all_events_applied, within_s=5)
    assert stack.captured(mine) == stack.credited(mine)


def test_a_broker_that_falls_silent_and_dies_loses_nothing(stack: Stack) -> None:
    """Silent first, so that events are on their way to it, unconfirmed, when it dies."""

    def unconfirmed() -> bool:
        metrics = requests.get(f"{stack.url('payments')}/metrics", timeout=2).json()
        return bool(metrics.get("outbox.publish_failures"))

    stack.signal("broker", signal.SIGSTOP)
    keys = [key() for _ in range(10)]
    assert [stack.top_up(200, k).status_code for k in keys] == [201] * 10
    eventually("a publication that nobody confirmed", unconfirmed, within_s=5)
    stack.signal("broker", signal.SIGKILL)
    stack.children["broker"].wait(5)
    assert all(stack.credited(k) == [] for k in keys)
    stack.start("broker")
    eventually("the credits", lambda: all(stack.credited(k) == [200] for k in keys), within_s=8)


def test_debits_are_exact_under_concurrency_and_stop_at_the_limit(stack: Stack) -> None:
    subscriber = 802
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
    eventually("the sum of both", lambda: stack.balance(SUBSCRIBER) == before + 40 * (30 - 7), within_s=5)


def test_who_posts_second_sees_what_the_first_has_posted(stack: Stack) -> None:
    items = [
        ledger.transfer("charge", key(), "k", minor, source="sub:803:main", to="revenue:content")
        for minor in (10, 7)
    ]

    async def scenario() -> None:
        database = impatient_database(stack.host, role="charging")
        async with database.transaction() as first:
            await ledger.post(first, items[:1])
            second = asyncio.create_task(database.run(lambda session: ledger.post(session, items[1:])))
            await asyncio.sleep(0.2)
            assert not second.done(), "the account is locked"
        await second
        rows = await database.fetch(
            "select amount_minor, balance_after_minor, account_version from posting"
            " where account_id = 'sub:803:main' order by account_version desc limit 2"
        )
        assert [tuple(row) for row in rows] == [(-7, 99_983, 3), (-10, 99_990, 2)]
        database.close()

    asyncio.run(scenario())
    assert stack.balance(803) == 99_983


class InTransaction(Database):
    """What batches ask of a database, inside of a transaction that somebody else ends."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def fetchval(self, sql: str, *args: Any, attempts: int = 1) -> Any:
        return await self._session.fetchval(sql, *args)


def test_a_debit_that_comes_again_while_it_is_committed_harms_nobody(stack: Stack) -> None:
    """As after a commit in doubt: the first try goes on in the database, the second shares its batch."""
    debit, other = Debit(key(), "f", 804, 10), Debit(key(), "f", 806, 10)
    before, replies = asyncio.run(while_it_is_committed(stack, [debit], [debit, other]))
    assert replies[debit.key] == before[debit.key]
    assert isinstance(answer := replies[other.key], Reply) and answer.status == 201
    assert (stack.balance(804), stack.balance(806)) == (99_990, 99_990)


def test_a_report_that_comes_while_its_session_is_committed_is_taken(stack: Stack) -> None:
    session_id = key()
    report = Report("terminate", session_id, 1, "f", 3)
    _, replies = asyncio.run(
        while_it_is_committed(stack, [Initial(session_id, "f", 805, "voice", 10)], [report])
    )
    assert replies[report.key] == Reply("f", 200, {"charged_minor": 0, "used_units": 3})


async def while_it_is_committed(
    stack: Stack, first: Sequence[Request], second: Sequence[Request]
) -> tuple[Replies, Replies]:
    """The replies to a batch and to a second one, which comes when the first is written but not committed."""

    def till(database: Database) -> Till:
        return Till(Batches(database, Outbox(), Metrics(), validity_s=10), Metrics())

    database = impatient_database(stack.host, role="charging")
    async with database.transaction() as session:
        before = await till(InTransaction(session)).serve_batch(first)
        again = asyncio.create_task(till(database).serve_batch(second))
        await asyncio.sleep(0.2)
        assert not again.done(), "it waits for the first"
    replies = await again
    database.close()
    return before, replies


def test_a_balance_is_as_of_no_later_than_its_snapshot(stack: Stack) -> None:
    """What is committed between the snapshot and the answer is not in it; a standby goes by its heartbeat."""
    account = ledger.main_account(807)

    async def scenario() -> None:
        database = impatient_database(stack.host, role="charging")
        async with database.session() as reading:
            await reading.execute("begin isolation level repeatable read")
            await reading.fetchval("select count(*) from account")  # takes the snapshot
            committed_after = await database.fetchval("select clock_timestamp()")
            assert stack.debit(807, 10, key()).status_code == 201
            row = await reading.fetchrow(balance._READ, account)
            assert row is not None and row["balance_minor"] == 100_000
            assert row["as_of"] < committed_after
            await reading.execute("commit")
            await reading.execute("begin read only")  # so is every transaction that begins on a standby
            row = await reading.fetchrow(balance._READ, account)
            assert row is not None and row["as_of"] == await reading.fetchval("select at from heartbeat")
            roamer = await reading.fetchrow(roamers._READ, account, "alfa")
            assert roamer is not None and roamer["agreed"] and roamer["spendable_minor"] == 99_990
            assert roamer["as_of"] == row["as_of"] and roamer["lag_s"] == pytest.approx(row["lag_s"], abs=0.5)
            await reading.execute("rollback")
        database.close()

    asyncio.run(scenario())


def test_maintenance_refuses_writes_and_waits_for_those_under_way(stack: Stack) -> None:
    edge = stack.url("edge")
    mine = key()
    stack.silence_psp_a()
    try:
        under_way = stack.later(stack.top_up, 600, mine)
        eventually("the payment under way", lambda: stack.state(mine) == "pending", within_s=5)
        closing = stack.later(
            lambda: requests.put(f"{edge}/ops/mode", json={"mode": "maintenance"}, timeout=10)
        )
        eventually(
            "the mode",
            lambda: requests.get(f"{edge}/status", timeout=1).json()["mode"] != "normal",
            within_s=2,
        )
        assert stack.top_up(1, key()).status_code == 503
        assert not closing.done()
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    closed = closing.result().json()
    assert closed["drained"] and under_way.result(timeout=2).status_code in (201, 202)
    refusal = stack.top_up(1, key())
    assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "5")
    assert requests.get(f"{edge}/accounts/{SUBSCRIBER}/balance", timeout=5).status_code == 200
    page = requests.get(f"{edge}/status", timeout=5).json()
    assert (page["mode"], page["epoch"]) == ("maintenance", closed["epoch"])
    opened = requests.put(f"{edge}/ops/mode", json={"mode": "normal"}, timeout=5).json()
    assert opened["epoch"] > closed["epoch"]
    eventually("the end of the payment", lambda: stack.state(mine) in ("settled", "failed"), within_s=8)
    assert stack.top_up(100, key()).status_code == 201


def test_the_status_page_shows_a_silent_service(stack: Stack) -> None:
    def colour(name: str) -> str:
        return str(requests.get(f"{stack.url('edge')}/status", timeout=1).json()["components"][name])

    eventually("green at first", lambda: colour("charging") == "green", within_s=5)
    stack.signal("charging", signal.SIGSTOP)
    try:
        eventually("red", lambda: colour("charging") == "red", within_s=2.5)
        assert colour("payments") != "red"
    finally:
        stack.signal("charging", signal.SIGCONT)
    eventually("green again", lambda: colour("charging") == "green", within_s=5)


def test_a_drain_finishes_what_is_in_flight_and_refuses_the_rest(stack: Stack) -> None:
    mine = key()
    stack.silence_psp_a()
    try:
        under_way = stack.later(stack.top_up, 800, mine, "payments")
        eventually("the payment under way", lambda: stack.state(mine) == "pending", within_s=5)
        stack.signal("payments", signal.SIGTERM)
        eventually("unready", lambda: not stack.ready("payments"), within_s=1)
        refusal = stack.top_up(1, key(), "payments")
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
    finally:
        stack.signal("psp-a", signal.SIGCONT)
    assert under_way.result().status_code in (201, 202)
    assert stack.children["payments"].wait(12) == 0
    stack.start("payments")
    eventually("the end of the payment", lambda: stack.state(mine) in ("settled", "failed"), within_s=8)


def test_what_cannot_be_applied_is_parked_and_can_be_replayed(stack: Stack) -> None:
    parked = "select count(*) from charging.dead_letter where attempts = 8 and replayed_at is null"
    eventually("both poisoned events are parked", lambda: stack.count(parked) == 2, within_s=12)
    mine, event_id = key(), str(uuid4())
    fields = {
        "payment_id": mine, "key": mine, "subscriber": SUBSCRIBER, "amount_minor": 50, "psp": "psp_a",
        "kind": "topup",
    }  # fmt: skip
    stack.database.execute(
        """insert into charging.dead_letter (event_id, consumer, subject, payload, attempts, error)
           values (%s, 'charging', 'payment.settled', %s, 8, 'a bug since mended')""",
        [event_id, json.dumps({"event_id": event_id, **fields})],
    )
    for expected in ({"replayed": 1, "failed": 2}, {"replayed": 0, "failed": 2}):
        answer = requests.post(f"{stack.url('charging')}/dlq/replay", timeout=10)
        assert answer.json() == {"charging": expected}
    assert stack.credited(mine) == [50]
