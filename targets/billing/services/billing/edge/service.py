"""The routes of edge, and its start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from billing.common import Limits, Service, json_object, whole_number
from billing.edge.announcements import Board
from billing.edge.failure_handling import FailureHandling, choice_of
from billing.edge.forward import Upstream
from billing.edge.mode import Kind, Modes
from billing.edge.outages import Outages
from billing.edge.reconciliation import reconciliation
from billing.edge.status import Colour, Component, colours, watch, worst

COMPONENTS = ("payments", "charging", "mediation", "notify", "roaming", "invoicing")

# Method, path, the service that answers, what kind of work it is.
ROUTES: tuple[tuple[str, str, str, Kind], ...] = (
    ("POST", "/topups", "payments", "money"),
    ("POST", "/invoices/{id}/payments", "payments", "money"),
    ("POST", "/vouchers/redeem", "payments", "money"),
    ("POST", "/agents/{agent}/receipts", "payments", "money"),
    ("GET", "/payments/{id}", "payments", "read"),
    ("POST", "/payments/{id}/refunds", "payments", "money"),
    ("GET", "/payments/{id}/refunds", "payments", "read"),
    ("GET", "/accounts/{subscriber}/balance", "charging", "read"),
    ("GET", "/accounts/{subscriber}/buckets", "charging", "read"),
    ("POST", "/credit-control", "charging", "gated"),
    ("POST", "/roaming/authorisations", "charging", "read"),
    ("POST", "/cdrs", "mediation", "usage"),
    ("POST", "/cdrs/files", "mediation", "usage"),
    ("GET", "/usage", "mediation", "read"),
    ("GET", "/invoices", "invoicing", "read"),
)
UPSTREAM_TIMEOUT_S = 8.0

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Edge:
    """``/status`` and ``/ops``, and the forwarding of everything else."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._components = {name: Component() for name in COMPONENTS}
        self._modes = Modes(service.database, service.outbox, service.metrics)
        self._board = Board(service.database)
        self._outages = Outages(COMPONENTS, self._colours, service.database, service.outbox, service.log)

    def install(self) -> None:
        service = self._service
        service.app.add_routes(
            [
                web.get("/status", self.status),
                web.put("/ops/mode", self.change_mode),
                web.post("/ops/announcements", self.announce),
            ]
        )
        for name in COMPONENTS:
            probes = service.client(f"{name}.probe", name.upper(), attempts=1)
            service.background(f"watch {name}", partial(watch, self._components[name], probes))
        upstreams = {name: self._upstream(name) for name in {route[2] for route in ROUTES}}
        for method, path, name, kind in ROUTES:
            send = upstreams[name].send
            if path == "/credit-control":
                send = FailureHandling(choice_of(service.settings), send, service.metrics).send
            service.app.router.add_route(method, path, self._forwarder(send, kind))
        service.background("mode", self._modes.run)
        service.background("announcements", self._board.run)
        service.background("outages", self._outages.watch)
        service.background("outages' book", self._outages.store)
        service.background("reconciliation", reconciliation(service).run)

    def _upstream(self, name: str) -> Upstream:
        url = self._service.settings.url(name.upper())
        upstream = Upstream(
            name, url, self._components[name], self._service.metrics, UPSTREAM_TIMEOUT_S, self._outages.met
        )
        self._service.on_close(upstream.close)
        return upstream

    def _forwarder(self, send: Handler, kind: Kind) -> Handler:
        async def forward(request: web.Request) -> web.Response:
            with self._modes.admitted(kind):
                return await send(request)

        return forward

    def _colours(self) -> dict[str, Colour]:
        return colours(self._components, self._service.broker.is_connected)

    async def status(self, _: web.Request) -> web.Response:
        """From memory only."""
        seen = self._colours()
        mode = self._modes.in_force
        restricted: list[Colour] = [] if mode is not None and mode.mode == "normal" else ["yellow"]
        page = {
            "overall": worst([*seen.values(), *restricted]),
            "mode": mode.mode if mode else "unknown",
            "epoch": mode.epoch if mode else 0,
            "components": seen,
            "announcements": self._board.shown(),
        }
        return web.json_response(page, headers={"Cache-Control": "no-store"})

    async def change_mode(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        retry_after_s = None
        if body.get("retry_after_s") is not None:
            retry_after_s = whole_number(body, "retry_after_s", at_least=1)
        changed, drained = await self._modes.change(
            str(body.get("mode")), str(body.get("reason", "")), retry_after_s
        )
        self._service.log("mode.changed", epoch=changed.epoch, mode=changed.mode, drained=drained)
        return web.json_response({"epoch": changed.epoch, "mode": changed.mode, "drained": drained})

    async def announce(self, request: web.Request) -> web.Response:
        announcement, stored = await self._board.publish(await json_object(request))
        return web.json_response(announcement.public(), status=201 if stored else 202)


def main() -> None:
    service = Service("edge", limits=Limits(size=4), always_ready=True, operational=frozenset({"/status"}))
    Edge(service).install()
    service.run()
