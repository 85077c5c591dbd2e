"""The HTTP side of selfcare, and its start."""

from __future__ import annotations

from aiohttp import web

from billing.common import Settings


async def well(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def main() -> None:
    settings = Settings.from_env()
    app = web.Application()
    app.add_routes([web.get("/live", well), web.get("/ready", well)])
    web.run_app(app, host=settings.listen_host, port=settings.listen_port, print=None)
