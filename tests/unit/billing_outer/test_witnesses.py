"""The witnesses' books: what they decide, what they write down, and that the log alone rebuilds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from witnesses.common import EventLog, Refusal
from witnesses.gateway import Outbound
from witnesses.partner import Received, Sent
from witnesses.psp import Book, Order
from witnesses.tap import TapFile

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
    return TapFile(partner, sequence, "P1", tuple((f"r{sequence}-{c}", "data", 10, c) for c in charges))


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


def test_an_emitted_file_keeps_its_number_until_it_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "partner.jsonl"

    def sent() -> Sent:
        return Sent(EventLog(path, "partner"))

    first = sent().file("P1", 0, 3)
    assert sent().file("P1", 0, 3) == first  # as after a restart: the same numbers, the same events
    sent().close(first, 0, "file_confirmed")
    rejected = sent().file("P1", 2, 3)
    assert (first.partner, first.sequence, rejected.partner, rejected.sequence) == ("alfa", 1, "alfa", 2)
    sent().close(rejected, 2, "file_rejected", "the period is closed")
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
