"""The pure rules of roaming: files and what is wrong with them, currencies, the partners' answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from billing.common import Answer
from billing.roaming import tap
from billing.roaming.inbound import currency_of, started_at
from billing.roaming.netting import their_figures
from billing.roaming.reconciliation import file_differences
from billing.roaming.transmission import rejection


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
    assert replace(file, currency="USD").content_hash != file.content_hash
    assert "EUR was agreed" in (tap.header_fault(replace(file, currency="USD")) or "")
    resubmitted = tap.make_file("alfa", 3, "P1", (replace(events[0], resubmitted=True), events[1]))
    assert tap.read_file(resubmitted.wire(sender="home", recipient="alfa")) == resubmitted != file


VISIT: dict[str, Any] = {"record_id": "r1", "partner": "beta", "currency": "USD"}


def test_a_visitors_record_is_in_its_partners_currency() -> None:
    assert currency_of(VISIT) == "USD"
    assert currency_of({**VISIT, "partner": "alfa", "currency": "EUR"}) == "EUR"
    with pytest.raises(ValueError, match="'r1' is in 'EUR', not in USD"):
        currency_of({**VISIT, "currency": "EUR"})
    with pytest.raises(ValueError, match="no partner: 'gamma'"):
        currency_of({**VISIT, "partner": "gamma"})
    with pytest.raises(KeyError, match="currency"):
        currency_of({"record_id": "r1", "partner": "beta"})


@pytest.mark.parametrize("text", [None, "yesterday", "2026-07-01T00:00:00", 5])
def test_a_visitors_record_that_does_not_say_when_it_began_is_refused(text: object) -> None:
    noon = "2026-07-01T14:00:00+02:00"
    assert started_at({**VISIT, "started_at": noon}) == datetime(2026, 7, 1, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="'r1' began at"):
        started_at({**VISIT, "started_at": text})


def test_a_rap_names_events_or_is_about_the_whole_file() -> None:
    rap = {"detail": "RAP: x", "rap": {"records": ["r1", "r2"], "reason": "not ours"}}
    assert rejection(Answer(422, rap, {})) == (["r1", "r2"], "not ours")
    assert rejection(Answer(422, {"detail": "RAP: header"}, {})) == ([], "RAP: header")
    assert rejection(Answer(422, None, {})) == ([], "")


def test_a_partners_figures_count_only_where_they_are_there() -> None:
    said = {"status": "agreed", "receivable_minor": 5, "payable_minor": 0}
    assert their_figures(Answer(200, said, {})) == (5, 0)
    for wrong in ({**said, "payable_minor": "0"}, {**said, "status": "maybe"}, {}, None):
        assert their_figures(Answer(200, wrong, {})) is None
    assert their_figures(Answer(503, said, {})) is None


def test_sequences_have_no_gap_and_no_second_use() -> None:
    file = tap.make_file("alfa", 3, "P1", ())
    assert tap.sequence_fault(file, 2) is None
    assert "missing" in (tap.sequence_fault(file, 1) or "")
    assert "another" in (tap.sequence_fault(file, 3) or "")


def test_files_differ_when_one_side_lacks_one_that_is_due_or_has_another() -> None:
    same, other, on_its_way = (("alfa", "out", n) for n in (1, 2, 3))
    content = ("P1", "EUR", 40, 9)
    ours = {same: content, other: content, on_its_way: content}
    theirs = {same: content, other: ("P1", "EUR", 40, 8), ("beta", "in", 1): ("P1", "USD", 1, 1)}
    found = file_differences(ours, {same, other}, theirs)
    assert [difference.reference for difference in found] == ["alfa:out:2", "beta:in:1"]
    assert "no such file" in found[1].problem
    assert file_differences(ours, set(ours), ours) == []
