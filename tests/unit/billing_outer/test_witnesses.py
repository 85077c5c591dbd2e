"""The witnesses' books: what they decide, what they write down, and that the log alone rebuilds them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from witnesses.clearing import Clearing, Figures, Reports
from witnesses.common import EventLog, Refusal
from witnesses.emitting import Sent
from witnesses.gateway import Outbound
from witnesses.psp import Book, Order
from witnesses.received import Received
from witnesses.tap import CURRENCIES, Event, TapFile

ORDER = Order("p1", "k1", 7, 500)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def book(path: Path) -> Book:
    """A provider started (again) on this log."""
    return Book(EventLog(path, "psp-a"))


def test_a_key_is_charged_once_even_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    first = book(path).charge("k", ORDER)
    again = book(path).charge("k", ORDER)
    assert first == again and first.state == "captured"
    assert [line["event"] for line in lines(path)] == ["capture", "replay"]
    assert [line["seq"] for line in lines(path)] == [1, 2]
    assert {(line["witness"], line["key"], line["amount_minor"]) for line in lines(path)} == {
        ("psp-a", "k", 500)
    }
    with pytest.raises(Refusal) as refused:
        book(path).charge("k", Order("p1", "k1", 7, 501))
    assert refused.value.status == 422


def test_a_void_keeps_a_later_charge_out_but_not_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    assert book(path).void("late").state == "voided"
    with pytest.raises(Refusal) as refused:
        book(path).charge("late", ORDER)
    assert refused.value.status == 409
    book(path).charge("early", ORDER)
    assert book(path).void("early").state == "captured"
    assert [line["event"] for line in lines(path)] == ["void", "refused", "capture"]


def test_declines_and_refunds(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    assert book(path).charge("d", Order("p", "k", 7, 1013)).state == "declined"
    with pytest.raises(Refusal):
        book(path).refund("d")
    book(path).charge("k", ORDER)
    assert book(path).refund("k").state == book(path).refund("k").state == "refunded"
    assert [line["event"] for line in lines(path)] == ["decline", "refused", "capture", "refund"]
    assert lines(path)[-1]["amount_minor"] == 500


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    book(path).charge("k", ORDER)
    with path.open("a") as file:
        file.write('{"seq": 2, "event": "capt')
    book(path).charge("k2", ORDER)
    assert [(line["seq"], line["key"]) for line in lines(path)] == [(1, "k"), (2, "k2")]


def test_the_gateway_delivers_a_message_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.jsonl"
    message = ("m1", "e1", "sub:7", "payment_settled", "Thanks")
    assert Outbound(EventLog(path, "gateway")).deliver(message) == "delivered"
    assert Outbound(EventLog(path, "gateway")).deliver(message) == "replay"
    with pytest.raises(Refusal):
        Outbound(EventLog(path, "gateway")).deliver((*message[:4], "Other words"))
    assert [line["event"] for line in lines(path)] == ["delivered", "replay", "refused"]


def tap(sequence: int, *charges: int, partner: str = "alfa") -> TapFile:
    events = tuple(Event(f"r{sequence}-{c}", "data", 10, c) for c in charges)
    return TapFile(partner, sequence, "P1", CURRENCIES[partner], events)


def test_a_partner_takes_a_file_once_and_without_gaps(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"

    def receive(file: TapFile, total_minor: int | None = None) -> str:
        total = file.total_minor if total_minor is None else total_minor
        return Received(EventLog(path, "partner")).take(file, file.event_count, total)

    assert receive(tap(1, 5, 7)) == "accepted"
    assert receive(tap(1, 5, 7)) == "duplicate"
    assert receive(tap(1, 3, partner="beta")) == "accepted"
    for wrong, why in ((tap(1, 5, 8), "used for another"), (tap(3, 1), "missing")):
        with pytest.raises(Refusal, match=why) as refused:
            receive(wrong)
        assert refused.value.status == 422
    with pytest.raises(Refusal, match="header"):
        receive(tap(2, 4), total_minor=5)
    assert receive(tap(2, 4)) == "accepted"
    events = [line for line in lines(path) if line["event"] == "tap_event"]
    assert [(e["partner"], e["sequence"], e["charge_minor"]) for e in events] == [
        ("alfa", 1, 5), ("alfa", 1, 7), ("beta", 1, 3), ("alfa", 2, 4),
    ]  # fmt: skip


def test_a_partner_takes_no_file_in_another_currency(tmp_path: Path) -> None:
    received = Received(EventLog(tmp_path / "partner.jsonl", "partner"))
    with pytest.raises(Refusal, match="EUR, and USD was agreed"):
        received.take(replace(tap(1, 5, partner="beta"), currency="EUR"), 1, 5)


def test_a_partner_rejects_events_once_until_they_are_resubmitted(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"

    def receive(file: TapFile) -> str:  # as after a restart, each time
        return Received(EventLog(path, "partner")).take(file, file.event_count, file.total_minor)

    for _ in range(2):  # told twice: planned once
        Received(EventLog(path, "partner")).plan_rejection("alfa", "P1", 2)
    assert receive(tap(1, 5, partner="beta")) == "accepted"
    for _ in range(2):  # the answer was lost: the same file is rejected in the same way
        with pytest.raises(Refusal) as refused:
            receive(tap(1, 5, 6, 7))
        assert refused.value.more["rap"]["records"] == ["r1-5", "r1-6"]
    assert receive(tap(1, 7)) == "accepted"  # its number was not used up
    again = replace(tap(2), events=(Event("r1-5", "data", 10, 5),))
    with pytest.raises(Refusal, match="RAP"):  # as if nothing had happened
        receive(again)
    marked = replace(again, events=(replace(again.events[0], resubmitted=True),))
    assert receive(marked) == "accepted" and receive(tap(3, 1, 2, 3)) == "accepted"
    kinds = [line["event"] for line in lines(path) if line["event"] != "tap_event"]
    assert kinds == [
        "rejection_planned", "file_received", *["events_rejected", "rap_record", "rap_record"] * 2,
        "file_received", "events_rejected", "rap_record", "file_received", "file_received",
    ]  # fmt: skip


def test_a_report_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"
    record = {"record_id": "r1", "service": "data", "units": 5, "started_at": "2026-01-01T10:00:00+00:00"}
    body = {"report_id": "n1", "partner": "alfa", "records": [record]}
    assert Reports(EventLog(path, "partner")).take(body) == "accepted"
    assert Reports(EventLog(path, "partner")).take(body) == "duplicate"
    with pytest.raises(Refusal, match="other records"):
        Reports(EventLog(path, "partner")).take({**body, "records": [{**record, "units": 6}]})
    assert [line["event"] for line in lines(path)] == [
        "nrtrde_report", "nrtrde_record", "nrtrde_duplicate", "nrtrde_refused",
    ]  # fmt: skip


def test_a_netting_is_agreed_when_both_find_the_same(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"

    def compare(receivable_minor: int, payable_minor: int) -> str:
        log = EventLog(path, "partner")
        clearing = Clearing(log, Received(log), Sent(log))
        status, own = clearing.compare("alfa", "P1", "EUR", Figures(receivable_minor, payable_minor))
        assert own == Figures(12, theirs.total_minor)
        return status

    Received(EventLog(path, "partner")).take(tap(1, 5, 7), 2, 12)
    theirs = Sent(EventLog(path, "partner")).file("P1", 0, 3)
    Sent(EventLog(path, "partner")).close(theirs, 0, "confirmed")
    open_file = Sent(EventLog(path, "partner")).file("P1", 2, 3)  # not confirmed: nobody owes it
    assert open_file.partner == "alfa" and theirs.total_minor > 0
    assert compare(12, theirs.total_minor + 1) == "disputed"
    assert compare(12, theirs.total_minor) == "agreed"
    assert compare(12, theirs.total_minor) == "agreed" and compare(11, 0) == "disputed"
    events = [line["event"] for line in lines(path) if line["event"].startswith("netting")]
    assert events == ["netting_disputed", "netting_agreed", "netting_repeated", "netting_disputed"]


def test_an_emitted_file_keeps_its_number_until_it_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"

    def sent() -> Sent:
        return Sent(EventLog(path, "partner"))

    first = sent().file("P1", 0, 3)
    assert sent().file("P1", 0, 3) == first  # as after a restart: the same numbers, the same events
    sent().close(first, 0, "confirmed")
    rejected = sent().file("P1", 2, 3)
    assert (first.partner, first.sequence, rejected.partner, rejected.sequence) == ("alfa", 1, "alfa", 2)
    sent().close(rejected, 2, "rejected", "the period is closed")
    assert sent().file("P2", 0, 3).sequence == 2
    assert sent().fate("P1", 0) == "file_confirmed"


def test_a_statement_has_the_money_that_moved_in_pages_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    psp = book(path)
    psp.void("late")
    psp.charge("k", ORDER)
    psp.charge("k", ORDER)
    psp.refund("k")
    for again in (psp, book(path)):
        assert [(line.seq, line.event, line.key, line.amount_minor) for line in again.statement(0)] == [
            (2, "capture", "k", 500),
            (4, "refund", "k", 500),
        ]
        assert [line.seq for line in again.statement(2)] == [4] and again.statement(4) == []
