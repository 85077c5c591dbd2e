"""Without the broker: consumers still stop, and a broker that has lost its stream is told on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import nats.js.errors
import pytest
from nats.js.api import StreamConfig, StreamInfo, StreamState

from billing.common import Consumer, Log, Metrics
from billing.common.broker import Broker


def broker(metrics: Metrics) -> Broker:
    return Broker("nats://nowhere:1", service="t", metrics=metrics, log=Log("t"))


def test_a_consumer_stops_while_the_broker_is_away() -> None:
    metrics = Metrics()

    async def scenario() -> None:
        never_connected = broker(metrics)
        parts: dict[str, Any] = {"database": None, "metrics": metrics, "log": Log("t")}
        consumer = Consumer("t", ["payment.settled"], None, broker=never_connected, **parts)  # type: ignore[arg-type]
        running = asyncio.create_task(consumer.run())
        await asyncio.sleep(0.02)
        assert not running.done()
        consumer.stop()
        await asyncio.wait_for(running, 0.5)

    asyncio.run(scenario())


class JetStream:
    """``created``: when the stream was made; None while there is none. A new one is made in 2027."""

    def __init__(self, created: datetime | None) -> None:
        self.created = created

    async def stream_info(self, _: str) -> StreamInfo:
        if self.created is None:
            raise nats.js.errors.NotFoundError
        return StreamInfo(config=StreamConfig(), state=StreamState(0, 0, 0, 0, 0), created=self.created)

    async def add_stream(self, _: StreamConfig) -> StreamInfo:
        self.created = datetime(2027, 1, 1, tzinfo=UTC)
        return await self.stream_info("")


@pytest.mark.parametrize(
    ("first", "then", "lost"),
    [
        pytest.param(None, "same", 0, id="made at the first start"),
        pytest.param(2026, "same", 0, id="connected again"),
        pytest.param(2026, None, 1, id="found nothing and made it again"),
        pytest.param(2026, 2028, 1, id="another service made it again"),
    ],
)
def test_a_stream_that_is_not_the_one_from_before_is_counted_and_logged(
    first: int | None, then: int | str | None, lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = Metrics()

    async def scenario() -> None:
        ours = broker(metrics)
        stream = JetStream(first and datetime(first, 1, 1, tzinfo=UTC))
        await ours._ensure_stream(stream)  # type: ignore[arg-type]
        if then != "same":
            stream.created = datetime(then, 1, 1, tzinfo=UTC) if isinstance(then, int) else None
        await ours._ensure_stream(stream)  # type: ignore[arg-type]

    asyncio.run(scenario())
    assert metrics["broker.streams_lost"] == lost
    assert ("broker.stream_lost" in capsys.readouterr().out) is bool(lost)
