"""The HTTP side of selfcare, and its start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import uvloop
from aiohttp import web

from billing.common import HttpClient, Log, Metrics, Settings, describe, json_object, text_field, whole_number
from billing.common.problems import problem_for
from billing.selfcare.bulletins import Bulletins
from billing.selfcare.catalogue import Catalogue
from billing.selfcare.mirror import Mirror
from billing.selfcare.ussd import Ussd

FAILED_PAUSE_S = 1.0


class Selfcare:
    """Routes and background tasks."""

    def __init__(self, settings: Settings) -> None:
        self._log = Log("selfcare")
        self._metrics = Metrics()
        self._clients = {
            name: HttpClient(name, settings.url(name.upper()), self._metrics)
            for name in ("edge", "charging", "mediation", "gateway")
        }
        folder = Path(settings.environment.get("DATA_DIR", "."))
        folder.mkdir(parents=True, exist_ok=True)
        self._mirror = Mirror(self._clients["edge"])
        self._catalogue = Catalogue(self._clients["mediation"], folder / "catalogue.json")
        self._ussd = Ussd(self._clients["charging"], self._catalogue, self._metrics)
        self._bulletins = Bulletins(
            self._mirror.broken,
            self._clients["gateway"],
            folder / "bulletins.json",
            self._log,
        )

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/live", self._well),
                web.get("/ready", self._well),
                web.get("/metrics", self._show_metrics),
                web.get("/status", self._status),
                web.get("/catalogue", self._show_catalogue),
                web.post("/ussd", self._dial),
            ]
        )
        app.cleanup_ctx.append(self._work)
        return app

    async def _work(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self._keep(name, work))
            for name, work in (
                ("mirror", self._mirror.run),
                ("catalogue", self._catalogue.run),
                ("bulletins", self._bulletins.run),
            )
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever: one that fails (a full disk) is started again."""
        while True:
            try:
                await work()
            except Exception as error:
                self._log("task.failed", task=name, error=describe(error))
            await asyncio.sleep(FAILED_PAUSE_S)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            problem = problem_for(error)
            if problem.status == 500:
                self._log("request.failed", path=request.path, error=error)
            return problem.response()

    async def _well(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.json_response(self._metrics.snapshot())

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self._mirror.page(), headers={"Cache-Control": "no-store"})

    async def _show_catalogue(self, _: web.Request) -> web.Response:
        return web.json_response(self._catalogue.shown())

    async def _dial(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        subscriber = whole_number(body, "subscriber", at_least=1)
        return web.json_response(await self._ussd.answer(subscriber, text_field(body, "code")))


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.from_env()
    app = Selfcare(settings).application()
    web.run_app(
        app,
        host=settings.listen_host,
        port=settings.listen_port,
        print=None,
        access_log=None,
        loop=uvloop.new_event_loop(),
    )
