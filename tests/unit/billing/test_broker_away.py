"""Without the broker, consumers still stop."""

from __future__ import annotations

import asyncio
from typing import Any

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
