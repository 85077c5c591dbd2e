"""The pure rules of mediation, notify and roaming."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.mediation.cdr import Rated, Suspended, Unreadable, rate, read_cdr
from billing.notify.message import message_for
from billing.roaming import tap
from billing.roaming.reconciliation import file_differences

TARIFF = {"data": 20_000, "voice": 150_000, "sms": 5_000_000}
CDR: dict[str, Any] = {
    "record_id": "r1",
    "subscriber": 7,
    "service": "data",
    "units": 25,
    "started_at": "2026-01-01T10:00:00+02:00",
}


@given(units=st.integers(0, 10**9), service=st.sampled_from(sorted(TARIFF)))
def test_rating_rounds_half_up_from_micro_units(units: int, service: str) -> None:
    exact = Decimal(units) * TARIFF[service] / 1_000_000
    expected = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    assert rate(read_cdr({**CDR, "units": units, "service": service}), TARIFF) == Rated(expected)


def test_half_a_minor_unit_is_rounded_up() -> None:
    assert rate(read_cdr(CDR), TARIFF) == Rated(1)  # 25 * 0.02 = 0.5
    assert rate(read_cdr({**CDR, "units": 24}), TARIFF) == Rated(0)


@pytest.mark.parametrize(
    "odd",
    [{"service": "fax"}, {"visitor_of": "gamma"}, {"units": 2**63 - 1}],
    ids=lambda odd: next(iter(odd)),
)
def test_whatever_was_accepted_and_cannot_be_rated_is_suspended(odd: dict[str, Any]) -> None:
    assert isinstance(rate(read_cdr({**CDR, **odd}), TARIFF), Suspended)


@pytest.mark.parametrize(
    "odd",
    [
        {"record_id": ""},
        {"record_id": "a\0b"},
        {"subscriber": "7"},
        {"units": -1},
        {"units": True},
        {"units": 2**63},
        {"started_at": "2026-01-01T10:00:00"},
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"visitor_of": 5},
    ],
    ids=str,
)
def test_what_cannot_be_stored_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match=next(iter(odd))):
        read_cdr({**CDR, **odd})


def test_a_message_is_the_same_however_often_it_is_made() -> None:
    event = {
        "event_id": "0b1e4a4e-7f0a-4b7c-8a55-2f5c2f0f1d11",
        "payment_id": "p-1",
        "subscriber": 7,
        "amount_minor": 1205,
    }
    message = message_for("payment.settled", event)
    assert message == message_for("payment.settled", dict(event))
    assert (message.recipient, message.template) == ("sub:7", "payment-settled")
    assert "12.05" in message.body and "p-1" in message.body
    assert message.id != message_for("payment.settled", {**event, "subscriber": 8}).id


def test_a_tap_file_survives_its_journey_and_shows_tampering() -> None:
    events = (tap.Event("r1", "data", 10, 5), tap.Event("r2", "sms", 1, 7))
    file = tap.make_file("alfa", 3, "P1", events)
    assert (file.event_count, file.total_minor) == (2, 12)
    came = tap.read_file(file.wire(sender="home", recipient="alfa"))
    assert came == file and came.content_hash == file.content_hash
    assert tap.header_fault(came) is None
    assert tap.header_fault(replace(file, total_minor=13)) is not None
    assert tap.header_fault(tap.make_file("alfa", 3, "P1", (events[0], events[0]))) is not None
    assert replace(file, events=events[:1]).content_hash != file.content_hash


def test_sequences_have_no_gap_and_no_second_use() -> None:
    file = tap.make_file("alfa", 3, "P1", ())
    assert tap.sequence_fault(file, 2) is None
    assert "missing" in (tap.sequence_fault(file, 1) or "")
    assert "another" in (tap.sequence_fault(file, 3) or "")


def test_files_differ_when_one_side_lacks_one_that_is_due_or_has_another() -> None:
    same, other, on_its_way = (("alfa", "out", n) for n in (1, 2, 3))
    ours = {same: ("P1", 40, 9), other: ("P1", 40, 9), on_its_way: ("P1", 40, 9)}
    theirs = {same: ("P1", 40, 9), other: ("P1", 40, 8), ("beta", "in", 1): ("P1", 1, 1)}
    found = file_differences(ours, {same, other}, theirs)
    assert [difference.reference for difference in found] == ["alfa:out:2", "beta:in:1"]
    assert "no such file" in found[1].problem
    assert file_differences(ours, set(ours), ours) == []
