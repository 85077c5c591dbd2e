"""The flow of a payment against scripted PSPs and a store in memory: who is asked what, and when."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from billing.common import Log, Metrics, Problem
from billing.payments.cashier import Cashier, Conclusion
from billing.payments.psp import Outcome
from billing.payments.resolver import CONCURRENT, Resolver
from billing.payments.store import IDLE_S, Attempt, Known, Order, Payment

U, V, A, C, D = Outcome.UNKNOWN, Outcome.VOID, Outcome.ABSENT, Outcome.CAPTURED, Outcome.DECLINED


class ScriptedPsp:
    """Answers charges and voids as told; notes what it was asked."""

    def __init__(self, name: str, charge: Outcome = U, void: Outcome = U, available: bool = True) -> None:
        self.name = name
        self.available = available
        self.answers = {"charge": charge, "void": void}
        self.asked: list[str] = []

    async def charge(self, _: Payment) -> Outcome:
        self.asked.append("charge")
        return self.answers["charge"]

    async def void_unless_captured(self, _: Payment, *, timeout_s: float = 1.0) -> Outcome:
        self.asked.append("void")
        return self.answers["void"]


class MemoryStore:
    """One payment at a time; ``broken`` makes settling fail as a lost database does."""

    def __init__(self) -> None:
        self.payment: Payment | None = None
        self.state = ""
        self.answer: dict[str, Any] | None = None
        self.status: int | None = None
        self.fingerprint = ""
        self.idle_s = 0.0
        self.attempts_: dict[str, str] = {}
        self.broken = False

    async def open(self, payment: Payment, fingerprint: str, psp: str) -> bool:
        if self.payment is not None:
            return False
        self.payment, self.fingerprint, self.state = payment, fingerprint, "pending"
        self.attempts_[psp] = "open"
        return True

    async def known(self, key: str) -> Known | None:
        if self.payment is None or self.payment.key != key:
            return None
        return Known(self.payment, self.fingerprint, self.state, self.idle_s, self.status, self.answer)

    async def settle(self, _: Payment, psp: str, answer: dict[str, Any]) -> bool:
        if self.broken:
            raise ConnectionError("the database has gone")
        return self._finish("settled", 201, answer, psp, "captured")

    async def fail(self, _: Payment, psp: str, attempt: str, failure: str, answer: dict[str, Any]) -> bool:
        return self._finish("failed", 402, answer, psp, attempt)

    def _finish(self, state: str, status: int, answer: dict[str, Any], psp: str, attempt: str) -> bool:
        if self.state not in ("pending", "unknown"):
            return False
        self.state, self.status, self.answer = state, status, answer
        self.attempts_[psp] = attempt
        return True

    async def doubt(self, _: Payment) -> None:
        self.state = "unknown"

    async def voided(self, _: Payment, psp: str) -> None:
        self.attempts_[psp] = "void"

    async def fail_over(self, _: Payment, void_at: str, then_at: str) -> bool:
        self.attempts_ |= {void_at: "void", then_at: "open"}
        return True

    async def attempts(self, _: Payment) -> list[Attempt]:
        return [Attempt(psp, state) for psp, state in self.attempts_.items()]

    async def in_doubt(self, _: str, limit: int) -> list[Payment]:
        assert self.payment is not None
        abandoned = self.state == "pending" and self.idle_s > IDLE_S
        return [self.payment] if self.state == "unknown" or abandoned else []


class Till:
    """A cashier with its surroundings."""

    def __init__(self, a: ScriptedPsp, b: ScriptedPsp, store: MemoryStore | None = None) -> None:
        self.store, self.a, self.b = store or MemoryStore(), a, b
        metrics, log = Metrics(), Log("test")
        self.cashier = Cashier(self.store, [a, b], metrics, log)  # type: ignore[arg-type,list-item]
        psps: Any = {"psp_a": a, "psp_b": b}
        self.resolver = Resolver(self.store, self.cashier, psps, metrics, log)  # type: ignore[arg-type]

    def take(self, *, waiting: bool = True, fingerprint: str = "f") -> Conclusion:
        return asyncio.run(self.cashier.take(Order("k", fingerprint, 7, 500), lambda: waiting))


@pytest.mark.parametrize(
    ("a", "b", "waiting", "status", "state", "b_asked"),
    [
        # charge and void at A, charge at B
        ((C, U), U, True, 201, "settled", []),
        ((D, U), C, True, 402, "failed", []),
        ((U, U), C, True, 202, "unknown", []),  # A is unresolved: B must not hear of it
        ((U, C), C, True, 201, "settled", []),  # captured after all
        ((U, V), C, True, 201, "settled", ["charge"]),
        ((U, V), C, False, 402, "failed", []),  # nobody waits any more
        ((A, U), C, True, 201, "settled", ["charge"]),  # never left this machine
        ((A, U), D, True, 402, "failed", ["charge"]),
        ((A, U), A, True, 402, "failed", ["charge"]),
        ((U, V), U, True, 202, "unknown", ["charge"]),
    ],
)
def test_what_becomes_of_a_payment(
    a: tuple[Outcome, Outcome],
    b: Outcome,
    waiting: bool,
    status: int,
    state: str,
    b_asked: list[str],
) -> None:
    till = Till(ScriptedPsp("psp_a", *a), ScriptedPsp("psp_b", b))
    assert till.take(waiting=waiting).status == status
    assert till.store.state == state
    assert till.b.asked == b_asked
    assert not till.cashier.in_flight


def test_a_capture_that_cannot_be_stored_is_pending_and_found_again() -> None:
    till = Till(ScriptedPsp("psp_a", C, C), ScriptedPsp("psp_b"))
    till.store.broken = True
    assert till.take().status == 202
    till.store.broken = False
    asyncio.run(till.resolver.sweep("psp_a"))
    assert till.store.state == "pending", "it may still be somebody's"
    till.store.idle_s = 6.0
    asyncio.run(till.resolver.sweep("psp_a"))
    assert (till.store.state, till.store.status) == ("settled", 201)


@pytest.mark.parametrize(("said", "state"), [(C, "settled"), (V, "failed"), (U, "unknown")])
def test_the_resolver_believes_only_the_psp(said: Outcome, state: str) -> None:
    till = Till(ScriptedPsp("psp_a", U, U), ScriptedPsp("psp_b"))
    till.take()
    till.a.answers["void"] = said
    asyncio.run(till.resolver.sweep("psp_a"))
    assert till.store.state == state


def test_the_resolver_leaves_a_payment_alone_whose_client_waits() -> None:
    till = Till(ScriptedPsp("psp_a", U, U), ScriptedPsp("psp_b"))
    till.take()
    assert till.store.payment is not None
    till.cashier.in_flight.add(till.store.payment.id)
    till.a.asked.clear()
    asyncio.run(till.resolver.sweep("psp_a"))
    assert till.a.asked == []


class Heap(MemoryStore):
    """Many payments in doubt at psp_a, claimed as the table lets them be claimed."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waiting = [Payment(UUID(int=n), f"k{n}", 7, 500) for n in range(count)]
        self.ended: list[int] = []

    async def in_doubt(self, _: str, limit: int) -> list[Payment]:
        claimed, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return claimed

    async def attempts(self, payment: Payment) -> list[Attempt]:
        if payment.id.int == 0:
            raise ConnectionError("the database has gone")
        await asyncio.sleep(0.01)
        return [Attempt("psp_a", "unknown")]

    async def fail(self, payment: Payment, *_: Any) -> bool:
        self.ended.append(payment.id.int)
        return True


def test_an_inquiry_that_fails_ends_none_of_those_beside_it() -> None:
    till = Till(ScriptedPsp("psp_a", U, V), ScriptedPsp("psp_b"), Heap(3))

    async def sweep() -> list[int]:
        with pytest.raises(ConnectionError):
            await till.resolver.sweep("psp_a")
        return till.store.ended  # type: ignore[attr-defined,no-any-return]

    assert asyncio.run(sweep()) == [1, 2]


def test_a_sweep_asks_about_all_whose_turn_has_come() -> None:
    heap = Heap(3 * CONCURRENT)
    heap.waiting = heap.waiting[1:]
    till = Till(ScriptedPsp("psp_a", U, V), ScriptedPsp("psp_b"), heap)
    asyncio.run(till.resolver.sweep("psp_a"))
    assert len(heap.ended) == 3 * CONCURRENT - 1


def test_a_key_is_answered_as_before_or_refused() -> None:
    till = Till(ScriptedPsp("psp_a", C), ScriptedPsp("psp_b"))
    first = till.take()
    assert till.take() == first
    assert till.a.asked == ["charge"]
    with pytest.raises(Problem, match="422"):
        till.take(fingerprint="other")


def test_a_key_in_progress_is_refused_until_its_process_is_gone() -> None:
    till = Till(ScriptedPsp("psp_a", C), ScriptedPsp("psp_b"))
    till.take()
    till.store.state, till.store.status, till.store.answer = "pending", None, None
    with pytest.raises(Problem, match="409"):
        till.take()
    till.store.idle_s = 6.0
    assert till.take().status == 202


def test_without_any_provider_new_payments_are_refused_before_they_begin() -> None:
    till = Till(ScriptedPsp("psp_a", available=False), ScriptedPsp("psp_b", available=False))
    with pytest.raises(Problem, match="503") as refusal:
        till.take()
    assert refusal.value.retry_after_s == 1
    assert till.store.payment is None
    till.store.payment = Payment(UUID(int=1), "k", 7, 500)
    till.store.fingerprint, till.store.state, till.store.status, till.store.answer = "f", "settled", 201, {}
    assert till.take().status == 201, "an old key still has its answer"
