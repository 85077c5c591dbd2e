"""Rules of the core services that need no server: what may be concluded, decided, shown."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.charging import credit
from billing.charging.books import CONTENT, Books
from billing.charging.events import transfer_of
from billing.charging.ledger import Account, Leg, Transfer, main_account
from billing.charging.requests import Debit, Reply
from billing.common import Answer, Event, Problem, RetryBudget, fingerprint
from billing.common.hosts import DatabaseUrl
from billing.edge.status import Component, worst
from billing.payments.cashier import may_fail_over
from billing.payments.psp import Outcome, charge_outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (201, Outcome.CAPTURED),
        (402, Outcome.DECLINED),
        (409, Outcome.VOID),
        (200, Outcome.UNKNOWN),
        (404, Outcome.UNKNOWN),
        (429, Outcome.UNKNOWN),
        (500, Outcome.UNKNOWN),
        (503, Outcome.UNKNOWN),
    ],
)
def test_only_a_clear_answer_of_a_psp_proves_anything(status: int, outcome: Outcome) -> None:
    assert charge_outcome(Answer(status, {}, {})) is outcome


def test_the_other_psp_is_tried_only_when_the_first_holds_nothing() -> None:
    assert {outcome for outcome in Outcome if may_fail_over(outcome)} == {Outcome.VOID, Outcome.ABSENT}


def test_a_fingerprint_depends_on_what_is_asked_and_not_on_how_it_is_written() -> None:
    assert fingerprint("topup", {"a": 1, "b": 2}) == fingerprint("topup", {"b": 2, "a": 1})
    assert fingerprint("topup", {"a": 1}) != fingerprint("topup", {"a": 2})
    assert fingerprint("topup", {"a": 1}) != fingerprint("charge", {"a": 1})


def test_retries_stay_within_their_share_of_calls() -> None:
    budget = RetryBudget(share=0.15, stock=5)
    granted = 0
    for _ in range(1000):
        budget.called()
        granted += budget.take()
        granted += budget.take()
    assert 145 <= granted <= 155


@pytest.mark.parametrize(
    ("url", "hosts", "wanted"),
    [
        (
            "postgresql://payments@db-1:5432,db-2:6000/billing?target_session_attrs=read-write",
            (("db-1", 5432), ("db-2", 6000)),
            "read-write",
        ),
        ("postgresql://charging@127.0.0.1/billing", (("127.0.0.1", 5432),), "any"),
    ],
)
def test_a_database_url_names_all_its_hosts(url: str, hosts: tuple[Any, ...], wanted: str) -> None:
    parsed = DatabaseUrl.parse(url)
    assert (parsed.hosts, parsed.wanted, parsed.name) == (hosts, wanted, "billing")


def test_an_unknown_wish_for_a_host_is_an_error() -> None:
    with pytest.raises(SystemExit, match="target_session_attrs"):
        DatabaseUrl.parse("postgresql://a@b:1/billing?target_session_attrs=read-writ")


def event(subject: str, **fields: Any) -> Event:
    return Event(uuid4(), subject, fields)


SETTLED = {
    "payment_id": "p", "key": "k", "subscriber": 7, "amount_minor": 500, "psp": "psp_b", "kind": "topup",
}  # fmt: skip
INVOICE = {**SETTLED, "kind": "invoice"}
VOUCHER = {**SETTLED, "kind": "voucher", "psp": "voucher"}
AGENT = {**SETTLED, "kind": "agent", "psp": "agent"}
REFUNDED = {**SETTLED, "refund_id": "f", "psp": "psp_a"}
RATED = {"record_id": "r", "subscriber": 7, "charge_minor": 3}
CLOSED = {"period": "P1", "partner": "alfa", "total_minor": 40, "currency": "EUR"}
IN_DOLLARS = {**CLOSED, "partner": "beta", "currency": "USD"}
NETTED = {"period": "P1", "partner": "beta", "currency": "USD", "receivable_minor": 40, "payable_minor": 15}


@pytest.mark.parametrize(
    ("event", "legs"),
    [
        (event("payment.settled", **SETTLED), {"psp_b:cash": -500, "sub:7:main": 500}),
        (event("payment.settled", **INVOICE), {"psp_b:cash": -500, "sub:7:main": 500}),
        (event("payment.settled", **VOUCHER), {"voucher:liability": -500, "sub:7:main": 500}),
        (event("payment.settled", **AGENT), {"agent:cash": -500, "sub:7:main": 500}),
        (event("payment.refunded", **REFUNDED), {"sub:7:main": -500, "psp_a:cash": 500}),
        (event("cdr.rated", rating=1, **RATED), {"sub:7:main": -3, "revenue:usage": 3}),
        (event("cdr.reversed", rating=1, **RATED), {"revenue:usage": -3, "sub:7:main": 3}),
        (
            event("compensation.granted", outage_id="o", subscriber=7, amount_minor=9),
            {"cost:compensation": -9, "sub:7:main": 9},
        ),
        (
            event("settlement.closed", direction="in", **IN_DOLLARS),
            {"cost:roaming:usd": -40, "partner:beta:payable": 40},
        ),
        (
            event("settlement.netted", **NETTED),
            {"partner:beta:receivable": 40, "partner:beta:payable": -15, "partner:beta:net": -25},
        ),
        (
            event("settlement.closed", direction="out", **CLOSED),
            {"partner:alfa:receivable": -40, "revenue:roaming": 40},
        ),
        (
            event("settlement.closed", direction="in", **CLOSED),
            {"cost:roaming": -40, "partner:alfa:payable": 40},
        ),
    ],
)
def test_events_become_the_transfers_of_the_contract(event: Event, legs: dict[str, int]) -> None:
    item = transfer_of(event)
    assert item is not None
    assert {leg.account: leg.amount_minor for leg in item.legs} == legs


@pytest.mark.parametrize(
    ("settled", "kind"),
    [(SETTLED, "topup"), (INVOICE, "invoice_payment"), (VOUCHER, "voucher"), (AGENT, "agent")],
)
def test_a_payment_is_booked_as_its_kind_under_its_key(settled: dict[str, Any], kind: str) -> None:
    item = transfer_of(event("payment.settled", **settled))
    assert item is not None and (item.kind, item.reference, item.key) == (kind, "p", "k")
    back = transfer_of(event("payment.refunded", **REFUNDED))
    assert back is not None and (back.kind, back.reference, back.key) == ("refund", "f", "k")


@pytest.mark.parametrize(
    "bad",
    [
        event("payment.settled", **{**SETTLED, "psp": "psp_c"}),
        event("payment.settled", **{**SETTLED, "psp": "voucher"}),
        event("payment.settled", **{**VOUCHER, "psp": "psp_a"}),
        event("payment.settled", **{**SETTLED, "kind": "gift"}),
        event("payment.refunded", **{**REFUNDED, "psp": "agent"}),
        event("payment.settled", **{**SETTLED, "amount_minor": -500}),
        event("payment.settled", **{**SETTLED, "amount_minor": 1.5}),
        event("cdr.rated", record_id="r", rating=1, subscriber=7),
        event("cdr.reversed", **RATED),
        event("settlement.closed", direction="in", **{**CLOSED, "currency": "XYZ"}),
        event("settlement.closed", direction="sideways", **CLOSED),
        event("cdr.roaming", record_id="r"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(bad: Event) -> None:
    with pytest.raises((ValueError, KeyError)):
        transfer_of(bad)


def test_each_rating_of_a_record_has_a_reference_of_its_own() -> None:
    events = [event(f"cdr.{what}", rating=n, **RATED) for n in (1, 2) for what in ("rated", "reversed")]
    named = [(item.kind, item.reference) for one in events if (item := transfer_of(one))]
    assert named == [("usage", "r"), ("usage_reversal", "r#1"), ("usage", "r#2"), ("usage_reversal", "r#2")]


def test_a_netting_of_nothing_moves_nothing() -> None:
    assert (
        transfer_of(event("settlement.netted", **{**NETTED, "receivable_minor": 0, "payable_minor": 0}))
        is None
    )


def test_legs_that_do_not_sum_to_zero_never_become_a_transfer() -> None:
    with pytest.raises(ValueError, match="sum to 0"):
        Transfer(uuid4(), "topup", "r", "k", (Leg("a", 1), Leg("b", -2)))


@given(
    balance=st.integers(-50, 200),
    limit=st.integers(0, 100),
    asked=st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.integers(1, 90)), max_size=12),
)
def test_debits_of_a_batch_together_respect_each_limit(
    balance: int, limit: int, asked: list[tuple[int, int]]
) -> None:
    """Subscriber 3 is unknown: 404. Everyone else pays exactly while the limit allows it."""
    accounts = {main_account(n): Account(balance, limit, 1) for n in (1, 2)}
    books = Books(accounts | {CONTENT: Account(0, 0, 1)}, {}, {})
    debits = [Debit(f"k{i}", "f", who, amount) for i, (who, amount) in enumerate(asked)]
    replies = {debit.key: credit.charge(books, debit, 1) for debit in debits}
    paid = {item.key for item in books.transfers}
    left = {1: balance, 2: balance}
    for debit in debits:
        reply = replies[debit.key]
        if debit.subscriber == 3:
            assert isinstance(reply, Problem) and reply.status == 404
            continue
        assert isinstance(reply, Reply)
        affordable = left[debit.subscriber] - debit.amount_minor >= -limit
        assert (debit.key in paid) == affordable
        assert reply.status == (201 if affordable else 402)
        if affordable:
            left[debit.subscriber] -= debit.amount_minor
            assert reply.body["balance_minor"] == left[debit.subscriber]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def visits(component: Component, good: int, bad: int, method: str = "POST") -> None:
    for number in range(good + bad):
        with component.visit(method) as visit:
            visit.good = number < good


def test_a_component_s_colour_follows_its_traffic_and_its_probes() -> None:
    clock = Clock()
    component = Component(clock)
    visits(component, good=0, bad=3)
    assert component.colour() == "green", "three requests are too few to judge by"
    visits(component, good=20, bad=0)
    assert component.colour() == "yellow"
    visits(component, good=0, bad=30)
    assert component.colour() == "red"
    clock.now += 3
    assert component.colour() == "green", "the window has passed"
    component.probed(False)
    assert component.colour() == "green", "one lost probe is no outage"
    component.probed(False)
    assert component.colour() == "red"
    component.probed(True)
    assert component.colour() == "green"


def test_questions_that_are_answered_do_not_make_up_for_payments_that_are_not_taken() -> None:
    component = Component(Clock())
    visits(component, good=0, bad=10)
    visits(component, good=200, bad=0, method="GET")
    assert component.colour() == "red"


def test_requests_that_hang_count_before_they_end() -> None:
    clock = Clock()
    component = Component(clock)
    hanging = [component.visit("POST") for _ in range(5)]
    for visit in hanging:
        visit.__enter__()
    assert component.colour() == "green"
    clock.now += 1.1
    assert component.colour() == "red"
    for visit in hanging:
        visit.__exit__(None, None, None)


def test_the_worst_colour_wins() -> None:
    assert worst(["green", "red", "yellow"]) == "red"
    assert worst([]) == "green"
