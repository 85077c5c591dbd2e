"""The pure rules of mediation: what is a record, which price list is its own, what is told of a rating.

That amounts are right is tested against independent oracles, in tests/property/test_rating_oracle.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.mediation.cdr import Cdr, Unreadable, read_cdr
from billing.mediation.intake import MOST_LINES, read_lines
from billing.mediation.ratings import Rating, Reversal, subject_of, told_of, told_of_reversal, told_of_visitor
from billing.mediation.tariff import PriceBook, Rated, Suspended, Tariff, rate

BODY: dict[str, Any] = {
    "record_id": "r1",
    "subscriber": 7,
    "service": "data",
    "units": 25,
    "started_at": "2026-01-10T10:00:00+02:00",
}
CDR = read_cdr(BODY)
NOW = datetime(2026, 2, 1, tzinfo=UTC)
LIST = Tariff(
    id=1, service="data", partner=None, currency="EUR", time_zone="UTC",
    valid_from=datetime(2026, 1, 1, tzinfo=UTC), valid_to=datetime(2026, 2, 1, tzinfo=UTC),
    peak_from=480, peak_to=1200, price_micro_per_unit=20_000, peak_price_micro_per_unit=40_000, increment=10,
    revision=1,
)  # fmt: skip
BOOK = PriceBook([LIST])


@pytest.mark.parametrize(
    "odd",
    [
        {"record_id": ""},
        {"record_id": "a\0b"},
        {"record_id": "\ud800"},  # legal JSON, and no text that can be stored
        {"record_id": "a#2"},  # would be another record's second rating
        {"subscriber": "7"},
        {"units": -1},
        {"units": True},
        {"units": 2**63},
        {"started_at": "2026-01-01T10:00:00"},
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"visitor_of": 5},
    ],
    ids=ascii,
)
def test_what_cannot_be_stored_is_refused_by_name(odd: dict[str, Any]) -> None:
    with pytest.raises(Unreadable, match=next(iter(odd))):
        read_cdr({**BODY, **odd})


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"service": "fax"}, "no tariff for service 'fax'"),
        ({"visitor_of": "gamma"}, "no roaming agreement with 'gamma'"),
        ({"units": 2**63 - 1}, "above"),
        ({"started_at": LIST.valid_to}, "no tariff"),
        ({"started_at": LIST.valid_from - timedelta(microseconds=1)}, "no tariff"),
        ({"started_at": NOW + timedelta(days=1, microseconds=1)}, "future"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_whatever_was_accepted_and_cannot_be_rated_is_suspended(odd: dict[str, Any], reason: str) -> None:
    result = rate(replace(CDR, **odd), BOOK, NOW)
    assert isinstance(result, Suspended) and reason in result.reason


def test_the_largest_charge_is_still_rated() -> None:
    dear = PriceBook([replace(LIST, peak_price_micro_per_unit=10**12, increment=1)])
    assert rate(replace(CDR, units=10**6), dear, NOW) == Rated(10**12, dear.at("data", None, CDR.started_at))  # type: ignore[arg-type]
    assert isinstance(rate(replace(CDR, units=10**6 + 1), dear, NOW), Suspended)


def test_an_event_a_day_ahead_may_still_be_the_clocks() -> None:
    ahead = PriceBook([replace(LIST, valid_to=NOW + timedelta(days=2))])
    assert isinstance(rate(replace(CDR, started_at=NOW + timedelta(days=1)), ahead, NOW), Rated)


def test_the_highest_revision_that_is_valid_then_wins() -> None:
    start, end = LIST.valid_from + timedelta(days=10), LIST.valid_from + timedelta(days=20)
    second = replace(LIST, id=2, revision=2, valid_from=start, valid_to=end)
    third = replace(LIST, id=3, revision=3, valid_from=end - timedelta(days=1))
    book = PriceBook([third, LIST, second])
    found = [
        book.at("data", None, instant)
        for instant in (start - timedelta(microseconds=1), start, third.valid_from, LIST.valid_to)
    ]
    assert found == [LIST, second, third, None]
    assert book.at("data", "alfa", start) is None and not book.has("alfa") and book.has(None)


def test_lines_of_a_file_are_read_one_by_one() -> None:
    good = json.dumps(BODY)
    lines = read_lines(
        "\n".join([good, "", "{", "[]", '{"record_id": "x"}', "[" * 100_000, good, ""]).encode()
    )
    assert [line.number for line in lines if isinstance(line.found, Cdr)] == [1, 7]
    assert len(lines) == 7 and all(line.found for line in lines)
    (odd,) = read_lines(b"\xff\xfe")
    assert isinstance(odd.found, str)


@pytest.mark.parametrize("content", [b"", b"{}\n" * (MOST_LINES + 1)], ids=["empty", "too long"])
def test_what_is_no_file_is_refused(content: bytes) -> None:
    with pytest.raises(Unreadable, match="1 to"):
        read_lines(content)


def test_every_rating_and_reversal_is_an_event_of_its_own() -> None:
    first = Rating(CDR, 1, Rated(5, LIST))
    again = Rating(CDR, 2, Rated(4, LIST))
    told = [told_of(first), told_of_reversal(Reversal(CDR, 1, 5)), told_of(again), told_of_visitor(first)]
    assert len({event_id for event_id, _ in told}) == 4
    assert told_of(first) == told_of(Rating(replace(CDR), 1, Rated(5, LIST)))
    usage = {"record_id": "r1", "service": "data", "units": 25, "started_at": "2026-01-10T08:00:00+00:00"}
    assert told[0][1] == {**usage, "charge_minor": 5, "rating": 1, "subscriber": 7, "currency": "EUR"}
    assert told[1][1] == {**usage, "charge_minor": 5, "rating": 1, "subscriber": 7}
    assert told[2][1] == {**usage, "charge_minor": 4, "rating": 2, "subscriber": 7, "currency": "EUR"}


def test_a_visitors_rating_is_told_to_roaming() -> None:
    visitor = Rating(replace(CDR, visitor_of="beta"), 1, Rated(5, replace(LIST, currency="USD")))
    assert (subject_of(visitor), subject_of(Rating(CDR, 1, Rated(5, LIST)))) == ("cdr.roaming", "cdr.rated")
    _, payload = told_of_visitor(visitor)
    assert (payload["partner"], payload["currency"], "subscriber" in payload) == ("beta", "USD", False)
