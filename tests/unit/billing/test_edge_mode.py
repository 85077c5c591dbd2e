"""A change of mode waits for what the new mode refuses, and for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from billing.common import Metrics
from billing.edge import mode
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
