"""What a provider tells unasked: of which changes, when, and when it is enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from witnesses.callbacks import LATE_S, Telling, delays_s, is_final
from witnesses.common import EventLog, Refusal
from witnesses.psp import Book, Order

ORDER = Order("p1", "k1", 7, 500)


def test_what_happened_is_told_once_and_a_voided_charge_is_never_told_as_captured(tmp_path: Path) -> None:
    told: list[Telling] = []
    path = tmp_path / "psp.jsonl"
    book = Book(EventLog(path, "psp-a"), told.append)
    book.charge("k", ORDER)
    book.charge("k", ORDER)  # a replay is nothing new
    book.charge("declined", Order("p2", "k2", 7, 1013))
    book.refund("k")
    book.refund("k")
    book.void("late")
    with pytest.raises(Refusal):
        book.charge("late", ORDER)
    assert book.void("k").state == "refunded"
    assert [(t.event, t.key, t.amount_minor) for t in told] == [
        ("captured", "k", 500), ("refunded", "k", 500), ("voided", "late", None),
    ]  # fmt: skip
    lines = {line["seq"]: line for line in map(json.loads, path.read_text().splitlines())}
    assert [lines[t.seq]["event"] for t in told] == ["capture", "refund", "void"]


def test_lines_about_call_backs_are_no_part_of_the_books(tmp_path: Path) -> None:
    path = tmp_path / "psp.jsonl"
    log = EventLog(path, "psp-a")
    Book(log).charge("k", ORDER)
    log.append([{"event": "callback", "key": "k", "amount_minor": 500, "told": "captured", "status": 200}])
    again = Book(EventLog(path, "psp-a"))
    charge = again.find("k")
    assert charge is not None and charge.state == "captured"
    assert [line.seq for line in again.statement(0)] == [1]


def test_when_call_backs_come_is_drawn_from_a_fixed_seed() -> None:
    drawn = [delays_s("psp-a", seq) for seq in range(1, 2001)]
    assert drawn == [delays_s("psp-a", seq) for seq in range(1, 2001)]
    assert drawn[:5] != [delays_s("psp-b", seq) for seq in range(1, 6)]
    assert min(delays[0] for delays in drawn) >= 0.2 and max(delays[0] for delays in drawn) <= LATE_S[1]
    late = sum(delays[0] >= LATE_S[0] for delays in drawn)
    twice = sum(len(delays) == 2 for delays in drawn)
    assert (0.1 < late / 2000 < 0.2, 0.05 < twice / 2000 < 0.15) == (True, True), (late, twice)


def test_only_a_yes_or_a_no_ends_a_call_back() -> None:
    assert [status for status in (None, 200, 204, 302, 401, 422, 500, 503) if is_final(status)] == [
        200, 204, 401, 422,
    ]  # fmt: skip
