"""The healing journal: on disk before the call returns, readable after any death."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.run.journal import Journal


def cut(link: str) -> Healing:
    return Healing(action="enable_link", args={"link": link})


def test_what_is_open_survives_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    ids = [journal.intend(cut(name)) for name in ("a", "b", "c")]
    journal.healed(ids[1])
    journal.healed(ids[1])
    again = Journal(path)  # without closing the first: it died
    assert again.pending() == [cut("a"), cut("c")] == journal.pending()
    assert again.intend(cut("d")) not in ids
    again.healed(ids[0])
    assert Journal(path).pending() == [cut("c"), cut("d")]
    with pytest.raises(KeyError):
        again.healed("h99")


def test_a_torn_last_line_was_never_answered_for(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).intend(cut("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "inte')
    journal = Journal(path)
    assert journal.pending() == [cut("a")]
    journal.intend(cut("b"))
    assert Journal(path).pending() == [cut("a"), cut("b")]


def test_a_spoilt_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).intend(cut("a"))
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(EnvironmentBroken, match=r"journal\.jsonl:2: not a line"):
        Journal(path)


def test_a_journal_that_cannot_be_written_stops_the_fault(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    with pytest.raises(EnvironmentBroken, match="cannot be written"):
        journal.intend(cut("a"))
    assert journal.pending() == []
