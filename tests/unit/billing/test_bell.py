"""What wakes a worker: it hears who rings while it gathers, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import time

from billing.common import Bell


def test_who_rings_while_more_is_gathered_is_heard_with_the_first() -> None:
    async def scenario() -> tuple[float, float]:
        bell, began = Bell(), time.monotonic()
        bell.ring()
        asyncio.get_running_loop().call_later(0.02, bell.ring)
        await bell.wait(60, gather_s=0.1)
        first = time.monotonic()
        await bell.wait(0.3)
        return first - began, time.monotonic() - first

    first_s, second_s = asyncio.run(scenario())
    assert first_s >= 0.1
    assert second_s >= 0.3, "the second ring was heard with the first"


def test_who_rings_before_anybody_waits_or_after_it_was_heard_is_heard_at_once() -> None:
    async def scenario() -> None:
        bell = Bell()
        for _ in range(2):
            bell.ring()
            async with asyncio.timeout(10):
                await bell.wait(60)

    asyncio.run(scenario())
