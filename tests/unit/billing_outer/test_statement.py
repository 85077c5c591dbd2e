"""A statement is read to its end as it was, not for as long as new lines arrive."""

from __future__ import annotations

import asyncio
from typing import Any

from billing.common.http_client import Answer
from billing.payments.reconciliation import Statement


class Provider:
    """Each page has a new line: captures arrive faster than they are read."""

    def __init__(self, full_pages: int) -> None:
        self.full_pages = full_pages
        self.asked = 0

    async def call(self, *_: Any) -> Answer:
        self.asked += 1
        line = {"seq": self.asked, "event": "capture", "key": f"k{self.asked}", "amount_minor": 5}
        return Answer(200, {"lines": [line], "more": self.asked <= self.full_pages}, {})


class Database:
    """Keeps what was stored; compares nothing."""

    def __init__(self) -> None:
        self.read_to = 0

    async def fetchval(self, *_: Any) -> int:
        return self.read_to

    async def run(self, *_: Any, **__: Any) -> list[Any]:
        return []

    async def execute(self, _: str, __: str, seqs: list[int], *___: Any, **____: Any) -> None:
        self.read_to = max(seqs)


def test_reading_ends_with_the_last_page_though_every_page_has_new_lines() -> None:
    provider, database = Provider(full_pages=2), Database()
    statement = Statement("psp_a", provider, database)  # type: ignore[arg-type]
    assert asyncio.run(asyncio.wait_for(statement.compare(), 2)) == []
    assert (provider.asked, database.read_to) == (3, 3)
