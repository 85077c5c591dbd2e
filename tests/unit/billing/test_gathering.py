"""A consumer whose effects nobody waits for takes events in lots; never while it is behind, or stopping."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from billing.common import Consumer, Log, Metrics

BATCH = 4


class ScriptedPull:
    """Gives batches of these sizes, each at once; notes when it was asked. Then it stops the consumer."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.asked_s: list[float] = []
        self.consumer: Consumer | None = None

    async def next(self, *_: Any) -> list[Any]:
        self.asked_s.append(asyncio.get_running_loop().time())
        if not self.sizes:
            assert self.consumer is not None
            self.consumer.stop()
            return []
        return [None] * self.sizes.pop(0)

    async def close(self) -> None:
        pass


def consumer_of(pull: ScriptedPull, gather_s: float, monkeypatch: pytest.MonkeyPatch) -> Consumer:
    async def give(*_: Any) -> ScriptedPull:
        return pull

    async def work(*_: Any) -> None:
        pass

    monkeypatch.setattr(Consumer, "_open", give)
    monkeypatch.setattr(Consumer, "work", work)
    parts: dict[str, Any] = {"database": None, "broker": None, "metrics": Metrics(), "log": Log("t")}
    pull.consumer = Consumer("t", [], work, batch=BATCH, gather_s=gather_s, **parts)
    return pull.consumer


def test_after_a_small_batch_it_gathers_and_after_a_full_one_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pull = ScriptedPull([1, BATCH, BATCH, 2])
    asyncio.run(consumer_of(pull, 0.2, monkeypatch).run())
    gaps = [after - before for before, after in zip(pull.asked_s, pull.asked_s[1:], strict=False)]
    assert [gap >= 0.19 for gap in gaps] == [True, False, False, True]


def test_gathering_ends_when_the_service_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    pull = ScriptedPull([1])
    consumer = consumer_of(pull, 60.0, monkeypatch)

    async def scenario() -> None:
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.02)
        assert len(pull.asked_s) == 1 and not running.done()
        consumer.stop()
        await asyncio.wait_for(running, 0.5)

    asyncio.run(scenario())
