"""Call-backs, refunds and receipts, and what a lockdown does to payments: decided without a database."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from asyncpg import PostgresError

from billing.common import Log, Metrics, Problem, is_lockdown
from billing.payments.agents import MOST, receipts_of
from billing.payments.callbacks import Bearing, Books, Callback, Callbacks, bearing, is_signed, parse
from billing.payments.cashier import Conclusion
from billing.payments.refunds import CONCURRENT, Refund, Refunds, RefundStore
from billing.payments.store import Payment
from tests.unit.billing.test_cashier import A, C, ScriptedPsp, Till, U, V

PAYMENT = Payment(UUID(int=7), "k", 7, 500)
REFUND = Refund(UUID(int=9), "r", "psp_a", "pending", PAYMENT)


def lockdown() -> PostgresError:
    """As ``public.admit`` raises it."""
    error = PostgresError("no money moves in a lockdown")
    error.sqlstate = "LQ503"
    return error


# -- call-backs --------------------------------------------------------------------------------


def told(event: Any, amount_minor: int | None = 500, psp: str = "psp_a") -> Callback:
    return Callback(psp, "psp-a:1", event, str(PAYMENT.id), amount_minor)


def books(
    state: str = "settled",
    channel: str | None = "psp_a",
    attempt: str | None = "captured",
    refund: Any = None,
) -> Books:
    return Books(PAYMENT, state, channel, attempt, refund)


@pytest.mark.parametrize(
    ("callback", "known", "means"),
    [
        (told("captured"), books("unknown", None, "unknown"), "settle"),
        (told("captured"), books("pending", None, "open"), "settle"),
        (told("captured"), books(), "known"),
        # What contradicts is for people: it settles nothing, and gives nothing back.
        (told("captured"), books("settled", "psp_b", "void"), "contradicts"),
        (told("captured"), books("failed", None, "void"), "contradicts"),
        (told("captured"), books("pending", None, "void"), "contradicts"),
        (told("captured"), books("pending", None, None), "contradicts"),
        (told("captured", 501), books("pending", None, "open"), "contradicts"),
        # A void ends the conversation with its own PSP; it is no news of a capture elsewhere.
        (told("voided", None), books("unknown", None, "unknown"), "close"),
        (told("voided", None), books("settled", "psp_b", "void"), "known"),
        (told("voided", None), books("failed", None, "declined"), "known"),
        (told("voided", None), books(), "contradicts"),
        (told("refunded"), books(refund=REFUND), "refunded"),
        (told("refunded"), books(refund=replace(REFUND, state="done")), "known"),
        (told("refunded"), books(), "contradicts"),
        (told("refunded", psp="psp_b"), books(refund=REFUND), "contradicts"),
        (told("refunded", 499), books(refund=REFUND), "contradicts"),
    ],
)
def test_what_a_call_back_means(callback: Callback, known: Books, means: Bearing) -> None:
    assert bearing(callback, known) == means


def test_only_the_key_s_holder_can_sign() -> None:
    body = b'{"callback_id": "psp-a:1"}'
    good = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    assert is_signed(body, good, "secret")
    assert not is_signed(body + b" ", good, "secret")
    assert not is_signed(body, good, "another")
    assert not any(is_signed(body, wrong, "secret") for wrong in ("", good[:-1], "é" * 64, "\udce9"))


def test_a_call_back_is_read_or_refused() -> None:
    body = {"callback_id": "psp-a:1", "psp": "psp-a", "event": "captured", "key": "k", "amount_minor": 5}
    assert parse(body) == Callback("psp_a", "psp-a:1", "captured", "k", 5)
    assert parse({**body, "event": "voided", "amount_minor": None}).amount_minor is None
    for wrong in ({"event": "stolen"}, {"amount_minor": None}, {"amount_minor": -5}, {"key": ""}, {"psp": 1}):
        with pytest.raises(Problem, match="400"):
            parse({**body, **wrong})
    assert parse(body).payment_id is None, "a key that is none of ours is no error"


class Ears:
    """Whom a call-back sets to work."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def conclude_settled(self, _: Payment, psp: str) -> None:
        self.done.append(f"settled at {psp}")

    async def voided(self, _: Payment, psp: str) -> None:
        self.done.append(f"void at {psp}")

    async def conclude(self, _: Refund) -> None:
        self.done.append("refunded")


@pytest.mark.parametrize(
    ("callback", "known", "done"),
    [
        (told("captured"), books("unknown", None, "unknown"), ["settled at psp_a"]),
        (told("voided", None), books("unknown", None, "unknown"), ["void at psp_a"]),
        (told("refunded"), books(refund=REFUND), ["refunded"]),
        (told("captured"), books(), []),
        (told("captured"), books("failed", None, "void"), []),
        (told("captured"), None, []),
    ],
)
def test_a_call_back_sets_to_work_who_can_end_a_doubt(
    callback: Callback, known: Books | None, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def keep(*_: Any) -> Books | None:
        return known

    monkeypatch.setattr(Callbacks, "_keep", keep)
    ears: Any = Ears()
    asyncio.run(Callbacks(ears, ears, ears, ears, "key", Metrics(), Log("test")).take(callback))
    assert ears.done == done


# -- a lockdown --------------------------------------------------------------------------------


def locked(till: Till, step: str) -> None:
    async def refuse(*_: Any) -> bool:
        raise lockdown()

    setattr(till.store, step, refuse)


def test_a_lockdown_refuses_a_new_payment_and_answers_an_old_one() -> None:
    till = Till(ScriptedPsp("psp_a", C), ScriptedPsp("psp_b", C))
    before = till.take()
    locked(till, "open")
    assert till.take() == before
    till.store.payment = None
    with pytest.raises(PostgresError) as refused:
        till.take()
    assert is_lockdown(refused.value) and till.a.asked == ["charge"]


@pytest.mark.parametrize("a", [(U, V), (A, U)])
def test_a_lockdown_keeps_the_second_psp_out_and_ends_the_payment(a: tuple[Any, Any]) -> None:
    till = Till(ScriptedPsp("psp_a", *a), ScriptedPsp("psp_b", C))
    locked(till, "fail_over")
    assert till.take().status == 402
    assert (till.store.state, till.b.asked) == ("failed", [])


# -- refunds -----------------------------------------------------------------------------------


class RefundShelf:
    """A store of one refund; ``gate`` is what asking raises."""

    def __init__(self, refund: Refund | None = None) -> None:
        self.refund = refund
        self.gate: Exception | None = None
        self.refundable = True
        self.events = 0

    def _admit(self) -> None:
        if self.gate is not None:
            raise self.gate

    async def ask(self, payment_id: UUID, key: str) -> Refund | None:
        self._admit()
        if self.refund is not None or not self.refundable:
            return None
        self.refund = replace(REFUND, key=key)
        return self.refund

    async def of_payment(self, _: UUID) -> Refund | None:
        return self.refund

    async def of_key(self, key: str) -> Refund | None:
        return None

    async def is_payment(self, payment_id: UUID) -> bool:
        return payment_id == PAYMENT.id

    async def done(self, refund: Refund) -> bool:
        assert self.refund is not None
        new = self.refund.state == "pending"
        self.refund = replace(self.refund, state="done")
        self.events += new
        return new

    async def due(self, _: str) -> list[Refund]:
        self._admit()
        return [self.refund] if self.refund is not None and self.refund.state == "pending" else []


class RefundingPsp:
    def __init__(self, gives: bool) -> None:
        self.gives = gives
        self.asked = 0

    async def refund(self, _: Payment) -> bool:
        self.asked += 1
        return self.gives


def desk(shelf: RefundShelf, psp: RefundingPsp) -> Refunds:
    return Refunds(shelf, {"psp_a": psp}, Metrics(), Log("test"))  # type: ignore[arg-type,dict-item]


def ask(refunds: Refunds, key: str = "r") -> Conclusion:
    return asyncio.run(refunds.refund(PAYMENT.id, key))


def test_a_refund_is_done_once_and_its_answer_is_repeated() -> None:
    shelf, psp = RefundShelf(), RefundingPsp(gives=True)
    refunds = desk(shelf, psp)
    first = ask(refunds)
    assert (first.status, first.body["status"], first.body["amount_minor"]) == (201, "done", 500)
    assert ask(refunds) == first
    assert (psp.asked, shelf.events) == (1, 1)
    with pytest.raises(Problem, match="422"):
        ask(refunds, "another key")


def test_a_refund_without_an_answer_is_pending_and_the_worker_s() -> None:
    shelf, psp = RefundShelf(), RefundingPsp(gives=False)
    refunds = desk(shelf, psp)
    assert [ask(refunds).status for _ in range(2)] == [202, 202]
    assert psp.asked == 1, "who asks again only hears how it stands"
    psp.gives = True
    for _ in range(2):
        asyncio.run(refunds.sweep("psp_a"))
    assert (psp.asked, shelf.events, ask(refunds).status) == (2, 1, 201)


def test_what_no_provider_holds_cannot_be_given_back() -> None:
    shelf = RefundShelf()
    shelf.refundable = False
    refunds = desk(shelf, RefundingPsp(gives=True))
    with pytest.raises(Problem, match="422"):
        ask(refunds)
    with pytest.raises(Problem, match="404"):
        asyncio.run(refunds.refund(UUID(int=99), "r"))


def test_in_a_lockdown_no_refund_begins_and_the_worker_waits() -> None:
    shelf, psp = RefundShelf(), RefundingPsp(gives=False)
    refunds = desk(shelf, psp)
    shelf.gate = lockdown()
    with pytest.raises(PostgresError) as refused:
        ask(refunds)
    assert is_lockdown(refused.value) and shelf.refund is None
    shelf.gate = None
    ask(refunds)
    shelf.gate, psp.gives = lockdown(), True
    asyncio.run(refunds.sweep("psp_a"))
    assert ask(refunds).status == 202, "it was asked for before: that is said, not refused"
    assert psp.asked == 1
    shelf.gate = None
    asyncio.run(refunds.sweep("psp_a"))
    assert shelf.events == 1


class Queue(RefundShelf):
    """Many refunds whose turn has come, admitted as the table admits them; noted by their PSP's calls."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waiting = [replace(REFUND, id=UUID(int=n)) for n in range(count)]

    async def done(self, _: Refund) -> bool:
        return True

    async def fetch(self, _: str, psp: str, limit: int) -> list[dict[str, Any]]:
        self._admit()
        admitted, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return [
            {"refund_id": r.id, "refund_key": r.key, "psp": r.psp, "state": r.state, **vars(PAYMENT)}
            for r in admitted
        ]

    async def due(self, psp: str) -> list[Refund]:
        return await RefundStore(self, self, []).due(psp)  # type: ignore[arg-type]


class SlowPsp(RefundingPsp):
    """Its first call brings a lockdown; ``fails``: whose call raises, at once."""

    def __init__(self, queue: Queue, *, locks: bool = False, fails: int | None = None) -> None:
        super().__init__(gives=True)
        self.queue, self.locks, self.fails = queue, locks, fails
        self.ended = 0

    async def refund(self, payment: Payment) -> bool:
        self.asked += 1
        if self.locks:
            self.queue.gate = lockdown()
        if self.asked == self.fails:
            raise RuntimeError("the PSP has no such route")
        await asyncio.sleep(0.01)
        self.ended += 1
        return True


def test_a_lockdown_stops_all_but_the_refunds_that_are_under_way() -> None:
    queue = Queue(3 * CONCURRENT)
    psp = SlowPsp(queue, locks=True)
    asyncio.run(desk(queue, psp).sweep("psp_a"))
    assert psp.asked == CONCURRENT
    queue.gate, psp.locks = None, False
    asyncio.run(desk(queue, psp).sweep("psp_a"))
    assert psp.asked == 3 * CONCURRENT, "one sweep tries all"


def test_a_sweep_that_fails_leaves_no_call_running() -> None:
    queue = Queue(3)
    psp = SlowPsp(queue, fails=1)

    async def sweep() -> int:
        with pytest.raises(RuntimeError, match="no such route"):
            await desk(queue, psp).sweep("psp_a")
        return psp.ended

    assert asyncio.run(sweep()) == 2


# -- receipts ----------------------------------------------------------------------------------

RECEIPT = {"receipt": "b", "subscriber": 7, "amount_minor": 500, "taken_at": "2026-01-01T00:00:00+00:00"}


def test_receipts_are_read_each_once_in_the_order_of_their_numbers() -> None:
    read = receipts_of({"receipts": [RECEIPT, {**RECEIPT, "receipt": "a"}, dict(RECEIPT)]})
    assert [receipt.receipt for receipt in read] == ["a", "b"]


@pytest.mark.parametrize(
    ("receipts", "status"),
    [
        ([], 400),
        ([{**RECEIPT, "receipt": str(n)} for n in range(MOST + 1)], 400),
        (["b"], 400),
        ([{**RECEIPT, "amount_minor": 0}], 400),
        ([{**RECEIPT, "taken_at": "2026-01-01T00:00:00"}], 400),  # in whose time zone?
        ([{**RECEIPT, "taken_at": "yesterday"}], 400),
        ([{**RECEIPT, "taken_at": "0001-01-01T00:00:00+14:00"}], 400),  # in UTC it is no date
        ([RECEIPT, {**RECEIPT, "amount_minor": 501}], 422),
    ],
)
def test_a_batch_that_makes_no_sense_is_refused_whole(receipts: list[Any], status: int) -> None:
    with pytest.raises(Problem, match=str(status)):
        receipts_of({"receipts": receipts})
