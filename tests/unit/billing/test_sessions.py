"""Credit control sessions as pure rules: what is granted, charged, given back, and what leaks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.charging import sessions
from billing.charging.books import CONTENT, SESSIONS, Books, Bucket, CreditSession
from billing.charging.ledger import Account, main_account, reserved_account
from billing.charging.requests import Initial, Reply, Report, needs_admission
from billing.common import Problem

MAIN, RESERVED = main_account(1), reserved_account(1)


def books(*, quota: int, balance: int, limit: int = 0, price_micro: int = 150_000) -> Books:
    accounts = {name: Account(0, 0, 1) for name in (CONTENT, SESSIONS, RESERVED)}
    bucket = Bucket(1, "voice", quota, 0, 0, price_micro)
    return Books({**accounts, MAIN: Account(balance, limit, 1)}, {(1, "voice"): bucket}, {})


def open_session(made: Books, units: int, session_id: str = "s") -> Reply:
    reply = sessions.begin(made, Initial(session_id, "f", 1, "voice", units), 1, 10)
    assert isinstance(reply, Reply)
    return reply


def update(made: Books, number: int, used: int, asked: int, *, epoch: int | None = 1) -> Reply:
    reply = sessions.report(made, Report("update", "s", number, "f", used, asked), epoch, 10)
    assert isinstance(reply, Reply)
    return reply


def terminate(made: Books, number: int, used: int) -> Reply:
    reply = sessions.report(made, Report("terminate", "s", number, "f", used), None, 10)
    assert isinstance(reply, Reply)
    return reply


def moved(made: Books) -> list[tuple[str, int]]:
    return [(item.kind, item.legs[1].amount_minor) for item in made.transfers]


def test_the_bucket_is_spent_before_any_money() -> None:
    made = books(quota=100, balance=500)
    assert open_session(made, 60).body["granted_units"] == 60
    assert update(made, 1, 60, 60).body == {"charged_minor": 0, "granted_units": 60, "valid_s": 10}
    assert terminate(made, 2, 60).body == {"charged_minor": 3, "used_units": 120}
    assert moved(made) == [("reserve", 3), ("session", 3)]  # 20 x 0.15
    assert made.buckets[1, "voice"].used_units == 100


def test_what_is_held_is_rounded_up_and_what_is_charged_half_up() -> None:
    made = books(quota=0, balance=500)
    open_session(made, 10)  # 1.50
    terminate(made, 1, 9)  # 1.35
    assert moved(made) == [("reserve", 2), ("session", 1), ("release", 1)]


def test_a_grant_is_what_money_is_there_for_and_a_session_without_any_is_refused() -> None:
    made = books(quota=0, balance=-10, limit=13)
    assert open_session(made, 100).body["granted_units"] == 20  # 3 minor units at 0.15
    refusal = open_session(made, 1, "other")
    assert refusal.status == 402
    assert set(made.touched) == {"s"}
    assert update(made, 1, 0, 50).body["granted_units"] == 20, "the reserved money is free again"


def test_use_beyond_the_grant_is_charged_as_far_as_the_balance_goes_and_the_rest_leaks() -> None:
    made = books(quota=10, balance=3)
    open_session(made, 10)
    terminate(made, 1, 50)
    session = made.sessions["s"]
    assert (session.charged_minor, session.leaked_units, session.leaked_minor) == (3, 20, 3)
    assert moved(made) == [("reserve", 3), ("session", 3)]
    assert [r.state for r in made.reservations.values()] == ["posted", "posted"]


def test_use_reported_after_the_expiry_is_charged_and_nothing_more_is_granted() -> None:
    made = books(quota=10, balance=100)
    open_session(made, 30)
    sessions.expire(made, made.sessions["s"])
    assert made.buckets[1, "voice"].reserved_units == 0
    assert moved(made) == [("reserve", 3), ("release", 3)]
    assert update(made, 1, 30, 30).body == {"charged_minor": 3, "granted_units": 0, "valid_s": 10}
    assert made.sessions["s"].state == "expired"


def test_a_lockdown_takes_what_was_used_and_grants_nothing() -> None:
    made = books(quota=100, balance=0)
    open_session(made, 10)
    assert update(made, 1, 10, 10, epoch=None).body["granted_units"] == 0
    assert made.buckets[1, "voice"].used_units == 10
    assert not needs_admission(Report("terminate", "s", 2, "f", 0))
    assert needs_admission(Report("update", "s", 2, "f", 0, 1))


def test_each_threshold_is_crossed_once() -> None:
    made = books(quota=100, balance=0)
    open_session(made, 79)
    update(made, 1, 79, 1)
    assert made.crossings == []
    update(made, 2, 1, 20)
    update(made, 3, 20, 10)
    assert [(c.percent, c.used_units) for c in made.crossings] == [(80, 80), (100, 100)]
    again = books(quota=100, balance=0)
    open_session(again, 100)
    terminate(again, 1, 100)
    assert [c.event()[0] for c in again.crossings] == [c.event()[0] for c in made.crossings]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Report("update", "nobody", 1, "f", 1, 1), 404),
        (Report("update", "s", 1, "g", 1, 1), 422),
        (Initial("s", "f", 1, "voice", 5), 422),
        (Initial("other", "f", 2, "voice", 5), 404),
    ],
)
def test_what_makes_no_sense_has_no_effect(request_: Initial | Report, status: int) -> None:
    made = books(quota=100, balance=0)
    open_session(made, 10)
    update(made, 1, 5, 5)
    before = (len(made.transfers), vars(made.sessions["s"]).copy())
    if isinstance(request_, Initial):
        answer = sessions.begin(made, request_, 1, 10)
    else:
        answer = sessions.report(made, request_, 1, 10)
    assert isinstance(answer, Problem) and answer.status == status
    assert (len(made.transfers), vars(made.sessions["s"])) == before


def test_a_session_that_was_ended_takes_nothing_more() -> None:
    made = books(quota=100, balance=0)
    open_session(made, 10)
    terminate(made, 1, 10)
    answer = sessions.report(made, Report("terminate", "s", 2, "f", 10), 1, 10)
    assert isinstance(answer, Problem) and answer.status == 410


@given(
    quota=st.integers(0, 60),
    balance=st.integers(-5, 12),
    limit=st.integers(0, 6),
    price=st.integers(1, 900_000),
    steps=st.lists(
        st.tuples(st.sampled_from("aab"), st.sampled_from("uuute"), st.integers(0, 40), st.integers(0, 40)),
        max_size=12,
    ),
)
def test_whatever_happens_all_units_are_accounted_for_and_no_limit_is_passed(
    quota: int, balance: int, limit: int, price: int, steps: Sequence[tuple[str, str, int, int]]
) -> None:
    """u: update, t: terminate, e: expire; of two sessions of one subscriber."""
    made = books(quota=quota, balance=balance, limit=limit, price_micro=price)
    lowest = min(balance + limit, 0)
    for name in "ab":
        sessions.begin(made, Initial(name, "f", 1, "voice", 20), 1, 10)
    for number, (name, what, used, asked) in enumerate(steps, 1):
        session = made.sessions.get(name)
        if what == "e" and session is not None and session.state == "open":
            sessions.expire(made, session)
        elif what != "e":
            kind = "update" if what == "u" else "terminate"
            sessions.report(made, Report(kind, name, number, "f", used, asked if what == "u" else 0), 1, 10)
        assert made.left_minor(MAIN) >= lowest
        check(made)


def check(made: Books) -> None:
    bucket = made.buckets[1, "voice"]
    held = list(made.reservations.values())
    open_ones = [r for r in held if r.state == "open"]
    assert bucket.used_units + bucket.reserved_units <= bucket.quota_units
    assert bucket.used_units == sum(r.used_bucket_units for r in held)
    assert bucket.reserved_units == sum(r.bucket_units for r in open_ones)
    assert made.left_minor(RESERVED) == sum(r.held_minor for r in open_ones)
    assert made.left_minor(SESSIONS) == sum(r.charged_minor for r in held)
    for session in made.sessions.values():
        check_session(session, made)


def check_session(session: CreditSession, made: Books) -> None:
    mine = [r for r in made.reservations.values() if r.session_id == session.id]
    covered = sum(r.used_bucket_units + r.used_paid_units for r in mine)
    assert session.used_units == covered + session.leaked_units
    assert session.charged_minor == sum(r.charged_minor for r in mine)
    assert sum(r.state == "open" for r in mine) == (session.reservation is not None)
    assert all(0 <= r.charged_minor <= r.held_minor for r in mine)
