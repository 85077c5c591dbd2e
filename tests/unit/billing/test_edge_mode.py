"""A change of mode waits for what the new mode refuses, and for nothing else; an announcement shows once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from billing.common import CommitInDoubt, Metrics
from billing.edge import mode
from billing.edge.announcements import Board
from billing.edge.mode import InForce, Kind, Modes


class OneEpoch:
    async def run(self, _: Any) -> int:
        return 2


@pytest.mark.parametrize(
    ("new_mode", "under_way", "drained"),
    [
        ("lockdown", "usage", True),
        ("lockdown", "money", False),
        ("lockdown", "read", True),
        ("maintenance", "usage", False),
        ("maintenance", "money", False),
        ("maintenance", "read", True),
        ("normal", "money", True),
    ],
)
def test_only_what_the_new_mode_refuses_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, new_mode: str, under_way: Kind, drained: bool
) -> None:
    monkeypatch.setattr(mode, "DRAIN_S", 0.1)
    modes = Modes(OneEpoch(), None, Metrics())  # type: ignore[arg-type]
    modes.in_force = InForce(1, "normal", None)

    async def scenario() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        with modes.admitted(under_way):
            began = loop.time()
            _, ended = await modes.change(new_mode, "why", None)
            waited_s = loop.time() - began
        assert (await modes.change(new_mode, "again", None))[1], "nothing is under way any more"
        return ended, waited_s

    ended, waited_s = asyncio.run(scenario())
    assert ended is drained
    assert (waited_s < 0.05) is drained


def test_an_announcement_whose_storing_ended_in_doubt_is_shown_once() -> None:
    rows: list[dict[str, Any]] = []
    columns = ("id", "kind", "message", "starts_at", "ends_at", "published_at")

    class StoresInSilence:
        async def execute(self, _: str, *fields: Any) -> None:
            rows[:] = [dict(zip(columns, fields, strict=True))]
            raise CommitInDoubt

        async def fetch(self, _: str) -> list[dict[str, Any]]:
            return rows

    async def scenario() -> list[dict[str, Any]]:
        board = Board(StoresInSilence())  # type: ignore[arg-type]
        _, stored = await board.publish({"kind": "outage", "message": "we know"})
        assert not stored
        looking = asyncio.create_task(board.run())
        await asyncio.sleep(0.02)
        looking.cancel()
        return board.shown()

    assert [shown["message"] for shown in asyncio.run(scenario())] == ["we know"]
