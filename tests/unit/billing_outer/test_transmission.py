"""Files on their way: what one partner does not take holds up no other partner, and no other period."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from billing.common import Answer, CallFailed, Database, HttpClient, Log, Metrics
from billing.roaming import transmission
from billing.roaming.tap import make_file
from billing.roaming.transmission import Transmission

Row = dict[str, Any]


class Books:
    """Empty files that wait: two of alfa, two of beta; the second of each is of a later period."""

    def __init__(self) -> None:
        waiting = (("alfa", 1, "P1"), ("alfa", 2, "P2"), ("beta", 1, "P1"), ("beta", 2, "P2"))
        self.files: list[Row] = [
            {"id": id_, "partner": partner, "sequence": sequence, "period": period}
            for id_, (partner, sequence, period) in enumerate(waiting)
        ]
        self.hashes = {
            file["id"]: make_file(file["partner"], file["sequence"], file["period"], ()).content_hash
            for file in self.files
        }
        self.sent: list[int] = []

    async def fetch(self, sql: str, key: Any, **_: object) -> list[Row]:
        if sql != transmission._UNSENT:
            return []
        return [file for file in self.files if file["partner"] == key and file["id"] not in self.sent]

    async def fetchval(self, _sql: str, file: int, **_: object) -> str:
        return self.hashes[file]

    async def execute(self, _sql: str, file: int, **_: object) -> None:
        self.sent.append(file)

    async def run(self, _: object) -> bool:
        return False  # nothing was rejected, nothing named


class Partners:
    """``beta`` takes each file; ``alfa`` does as it is told, and with None lets the caller wait."""

    def __init__(self, alfa: Answer | Exception | None) -> None:
        self._alfa = alfa

    async def call(self, *_: object, body: Row) -> Answer:
        answer = self._alfa if body["partner"] == "alfa" else Answer(200, {}, {})
        if isinstance(answer, Exception):
            raise answer
        return answer or await asyncio.Future()


def send_all(books: Books, alfa: Answer | Exception | None, *, within_s: float = 5) -> bool:
    partners = cast(HttpClient, Partners(alfa))
    made = Transmission(cast(Database, books), partners, Metrics(), cast(Log, lambda *_, **__: None))
    return asyncio.run(asyncio.wait_for(made.send_all("P1"), within_s))


@pytest.mark.parametrize(
    "alfa",
    [
        Answer(422, {"detail": "RAP: header"}, {}),
        Answer(503, None, {}),
        CallFailed("", may_have_arrived=True),
    ],
)
def test_what_one_partner_does_not_take_holds_up_no_other(
    alfa: Answer | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transmission, "RETRY_CAP_S", 0.01)
    books = Books()
    assert not send_all(books, alfa)
    assert books.sent == [2, 3]
    assert send_all(books, Answer(200, {}, {}))
    assert books.sent == [2, 3, 0, 1]


def test_no_partner_waits_for_another() -> None:
    books = Books()
    with pytest.raises(TimeoutError):
        send_all(books, None, within_s=0.1)
    assert books.sent == [2, 3]


@pytest.mark.parametrize(("changed", "others"), [(0, [2, 3]), (2, [0, 1])])
def test_a_file_whose_events_have_changed_is_not_sent_and_holds_up_no_other(
    changed: int, others: list[int]
) -> None:
    books = Books()
    books.hashes[changed] = "of other events"
    assert not send_all(books, Answer(200, {}, {}))
    assert books.sent == others
