"""The connection to NATS JetStream, renewed for as long as the service lives.

Each time it is lost a fresh client takes over: nats-py's own reconnect keeps subscriptions and buffers
whose state is hard to know after a black hole. Silence is noticed by pings within three seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext

from billing.common.log import Log
from billing.common.metrics import Metrics

STREAM = "BILLING"
NOUNS = ("payment", "cdr", "settlement", "ops", "quota", "invoice", "dunning", "compensation", "notice")
SUBJECTS = tuple(f"{noun}.>" for noun in NOUNS)

BROKER_FAILURES = (nats.errors.Error, OSError, asyncio.TimeoutError)


class Broker:
    """``run`` keeps it connected; the others ask for ``jetstream()`` each time they need it."""

    def __init__(self, url: str, *, service: str, metrics: Metrics, log: Log) -> None:
        self._url = url
        self._service = service
        self._metrics = metrics
        self._log = log
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._connected = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    async def jetstream(self) -> JetStreamContext:
        """The current client's context, once there is one."""
        while True:
            await self._connected.wait()
            if self._jetstream is not None and self._client is not None and self._client.is_connected:
                return self._jetstream
            await asyncio.sleep(0.05)

    async def client(self) -> Client:
        """The current client, once there is one."""
        await self.jetstream()
        assert self._client is not None
        return self._client

    async def publish(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout_s: float = 2.0
    ) -> None:
        """Returns when the broker has confirmed that the stream has it. Raises BROKER_FAILURES."""
        if self._client is None or self._jetstream is None or not self._client.is_connected:
            raise nats.errors.ConnectionClosedError
        await self._jetstream.publish(
            subject, payload, timeout=timeout_s, stream=STREAM, headers=dict(headers)
        )

    async def run(self) -> None:
        """Connect, make sure of the stream, wait for the end of the connection; for ever."""
        while True:
            lost = asyncio.Event()
            try:
                self._client = await self._connect(lost)
                self._jetstream = self._client.jetstream(timeout=2.0)
                await self._ensure_stream(self._jetstream)
                self._connected.set()
                self._metrics.add("broker.connects")
                self._log("broker.connected")
                await lost.wait()
                self._log("broker.lost")
            except BROKER_FAILURES:
                self._metrics.add("broker.connect_failures")
            finally:
                self._connected.clear()
                await self._drop()
            await asyncio.sleep(0.25)

    async def _connect(self, lost: asyncio.Event) -> Client:
        async def closed() -> None:
            lost.set()

        async def ignore(_: Exception) -> None:
            """Whatever it is, the closing callback or the caller's own error tells it."""

        return await nats.connect(
            self._url,
            name=self._service,
            allow_reconnect=False,
            connect_timeout=2,
            reconnect_time_wait=0.25,  # also between the tries of a first connect
            ping_interval=1,
            max_outstanding_pings=2,
            closed_cb=closed,
            error_cb=ignore,
        )

    async def _ensure_stream(self, jetstream: JetStreamContext) -> None:
        """Create it where it is missing."""
        try:
            await jetstream.stream_info(STREAM)
        except nats.js.errors.NotFoundError:
            await jetstream.add_stream(
                StreamConfig(
                    name=STREAM,
                    subjects=list(SUBJECTS),
                    storage=StorageType.FILE,
                    retention=RetentionPolicy.LIMITS,
                    duplicate_window=120.0,
                )
            )
            self._log("broker.stream_created", stream=STREAM)

    async def _drop(self) -> None:
        client, self._client, self._jetstream = self._client, None, None
        if client is not None and not client.is_closed:
            with contextlib.suppress(*BROKER_FAILURES):
                async with asyncio.timeout(1.0):
                    await client.close()
