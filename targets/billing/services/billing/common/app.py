"""The skeleton all services share: HTTP server, background tasks, readiness, and the drain.

A service listens at once and becomes ready when its database answers; it stays up whatever else is
down. SIGTERM drains: unready, new work refused with 503 and ``Retry-After``, what is in flight finished,
consumers stopped, the outbox given a last chance, exit 0.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

import uvloop
from aiohttp import web

from billing.common.broker import Broker
from billing.common.consumer import Consumer, Handler
from billing.common.database import Database, Limits
from billing.common.http_client import HttpClient
from billing.common.log import Log, describe
from billing.common.metrics import Metrics
from billing.common.outbox import Outbox, Relay
from billing.common.problems import problem_for, refused
from billing.common.settings import Settings

WebHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DRAIN_S = 8.0
OPERATIONAL = frozenset({"/live", "/ready", "/metrics"})


class Service:
    """One service of the stack. Add routes, consumers and tasks, then ``run``."""

    def __init__(
        self,
        name: str,
        *,
        limits: Limits | None = None,
        always_ready: bool = False,
        operational: frozenset[str] = frozenset(),
    ) -> None:
        """``always_ready``: also without a database. ``operational``: more paths that a drain leaves open."""
        self.name = name
        self.settings = Settings.from_env()
        self.log = Log(name)
        self.metrics = Metrics()
        self.database = self.open_database("DATABASE", limits)
        self.broker = Broker(self.settings.url("BROKER"), service=name, metrics=self.metrics, log=self.log)
        self.outbox = Outbox()
        self.relay = Relay(self.outbox, self.database, self.broker, self.metrics, self.log)
        self.app = web.Application(middlewares=[self._guard], client_max_size=2**20)
        self.app.add_routes(
            [
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/metrics", self._metrics),
                web.post("/dlq/replay", self._replay),
            ]
        )
        self._always_ready = always_ready
        self._operational = OPERATIONAL | operational
        self._consumers: list[Consumer] = []
        self._tasks: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._database_answers: bool | None = None  # None: not known yet
        self._in_flight = 0
        self._draining = False
        self.metrics.gauge("in_flight", lambda: self._in_flight)

    # -- what a service is made of ------------------------------------------------------------

    def open_database(self, setting: str, limits: Limits | None = None) -> Database:
        """A pool towards ``<setting>_URL``."""
        return Database(
            self.settings.url(setting),
            service=self.name,
            metrics=self.metrics,
            log=self.log,
            limits=limits,
        )

    def client(self, name: str, setting: str, *, timeout_s: float = 1.0, attempts: int = 3) -> HttpClient:
        """An HTTP client of the party at ``<setting>_URL``; closed with the service."""
        client = HttpClient(
            name, self.settings.url(setting), self.metrics, timeout_s=timeout_s, attempts=attempts
        )
        self.on_close(client.close)
        return client

    def consume(
        self, subjects: Sequence[str], handle: Handler, *, batch: int = 64, gather_s: float = 0.0
    ) -> Consumer:
        """A durable consumer, named after the service. ``gather_s``: so long may events wait for more."""
        consumer = Consumer(
            self.name,
            subjects,
            handle,
            database=self.database,
            broker=self.broker,
            metrics=self.metrics,
            log=self.log,
            batch=batch,
            gather_s=gather_s,
        )
        self._consumers.append(consumer)
        return consumer

    def background(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """A task for the life of the service; when it fails it is started again, with back-off."""
        self._tasks.append((name, work))

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        self._closers.append(close)

    @property
    def database_answers(self) -> bool:
        """Whether the database answered when last asked, at most 1.5 s ago. True before that."""
        return self._database_answers is not False

    # -- HTTP ---------------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: WebHandler) -> web.StreamResponse:
        if request.path in self._operational:
            return await handler(request)
        if self._draining:
            return refused("draining", "the service is going down").response()
        self._in_flight += 1
        try:
            return await handler(request)
        except Exception as error:
            problem = problem_for(error)
            if problem.status >= 500:
                self.metrics.add(f"http.{problem.status}")
                if problem.status == 500:
                    self.log("request.failed", path=request.path, error=error)
            return problem.response()
        finally:
            self._in_flight -= 1

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _: web.Request) -> web.Response:
        if self._draining or not (self._database_answers or self._always_ready):
            reason = "draining" if self._draining else "the database does not answer"
            return refused("not ready", reason).response()
        return web.json_response({"status": "ok"})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.json_response(self.metrics.snapshot())

    async def _replay(self, _: web.Request) -> web.Response:
        counts = {consumer.name: await consumer.replay_parked() for consumer in self._consumers}
        return web.json_response(counts)

    # -- life ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        settings = self.settings
        await web.TCPSite(runner, settings.listen_host, settings.listen_port, backlog=1024).start()
        consuming = [asyncio.create_task(self._keep("consumer", c.run)) for c in self._consumers]
        tasks = [
            asyncio.create_task(self._keep(name, work))
            for name, work in [
                ("broker", self.broker.run),
                ("relay", self.relay.run),
                ("health", self._watch_database),
                *self._tasks,
            ]
        ]
        self.log("started", listen=f"{settings.listen_host}:{settings.listen_port}")
        await ended.wait()
        await self._drain(consuming)
        await self._close(runner, [*consuming, *tasks])

    async def _drain(self, consuming: Sequence[asyncio.Task[None]]) -> None:
        self._draining = True
        self.log("draining", in_flight=self._in_flight)
        deadline = time.monotonic() + DRAIN_S
        for consumer in self._consumers:
            consumer.stop()
        while self._in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if consuming:
            await asyncio.wait(consuming, timeout=max(0.1, deadline - time.monotonic()))
        if self.broker.is_connected:
            try:
                async with asyncio.timeout(1.0):
                    await self.relay.relay_batch()
            except Exception as error:
                # The rows stay in the outbox: the next incarnation sends them.
                self.log("drain.relay", error=error)

    async def _close(self, runner: web.AppRunner, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in self._closers:
            await close()
        await runner.cleanup()
        self.database.close()
        self.log("stopped", in_flight=self._in_flight)

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever, or until it returns while the service drains."""
        pause_s = 0.1
        while True:
            began = time.monotonic()
            try:
                await work()
                if self._draining:
                    return
            except Exception as error:
                self.log("task.failed", task=name, error=describe(error))
            pause_s = 0.1 if time.monotonic() - began > 10 else min(1.0, pause_s * 2)
            await asyncio.sleep(pause_s)

    async def _watch_database(self) -> None:
        while True:
            answers = await self.database.ready()
            if answers != self._database_answers:
                self.log("database.answers" if answers else "database.silent")
            self._database_answers = answers
            await asyncio.sleep(0.5)
