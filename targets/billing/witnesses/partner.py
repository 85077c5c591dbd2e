"""The roaming partners ``alfa`` and ``beta``: they take our TAP files and reports, and send theirs.

Directions are named as the billing stack sees them: ``out`` files bill the partner for its visitors
with us, ``in`` files bill us for our subscribers abroad; so does what is receivable and payable. Sequences
run from 1 without a gap per partner and direction; a retransmission keeps its number, a rejected file
gives its number back.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import web

from witnesses.clearing import Clearing, Figures, Reports
from witnesses.common import AnswerTime, EventLog, Record, application, field, json_object, serve
from witnesses.emitting import Emitter, Sent
from witnesses.received import Received
from witnesses.tap import read_file, text_parameter, whole_parameter

# A file exchange between operators crosses the Internet and is checked event by event.
ANSWER_LOW_S, ANSWER_HIGH_S = 0.1, 0.2


class Partners:
    """The handlers."""

    def __init__(self, log: EventLog, roaming_url: str) -> None:
        self._received = Received(log)
        self._sent = Sent(log)
        self._reports = Reports(log)
        self._clearing = Clearing(log, self._received, self._sent)
        self._answer_time = AnswerTime("partner/7", ANSWER_LOW_S, ANSWER_HIGH_S)
        self.emitter = Emitter(self._sent, roaming_url)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/tap", self.tap),
            web.post("/reject", self.reject),
            web.post("/nrtrde", self.nrtrde),
            web.post("/netting", self.netting),
            web.post("/emit", self.emitter.emit),
            web.get("/files", self.files),
        ]

    async def tap(self, request: web.Request) -> web.Response:
        """A file of ours: taken, known already, or rejected."""
        body: Record = await json_object(request)
        file = read_file(body)
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        status = self._received.take(file, field(body, "event_count", int), field(body, "total_minor", int))
        await asyncio.sleep(after_s)
        return web.json_response({"status": status})

    async def reject(self, request: web.Request) -> web.Response:
        """Be told to find fault, once, with some events of the partner's next file of that period."""
        partner, period = text_parameter(request, "partner"), text_parameter(request, "period")
        self._received.plan_rejection(partner, period, whole_parameter(request, "events"))
        return web.json_response({"status": "planned"})

    async def nrtrde(self, request: web.Request) -> web.Response:
        """A report of visitors' usage."""
        body: Record = await json_object(request)
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        status = self._reports.take(body)
        await asyncio.sleep(after_s)
        return web.json_response({"status": status})

    async def netting(self, request: web.Request) -> web.Response:
        """What the stack finds that both owe each other, answered with what we find."""
        body: Record = await json_object(request)
        told = Figures(field(body, "receivable_minor", int), field(body, "payable_minor", int))
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        status, own = self._clearing.compare(
            field(body, "partner", str), field(body, "period", str), field(body, "currency", str), told
        )
        await asyncio.sleep(after_s)
        return web.json_response({"status": status, **vars(own)})

    async def files(self, _: web.Request) -> web.Response:
        return web.json_response({"files": [*self._received.heads(), *self._sent.heads()]})


def main() -> None:
    log = EventLog(Path(os.environ["LOG_FILE"]), "partner")
    partners = Partners(log, os.environ["ROAMING_URL"])
    app = application(log)
    app.add_routes(partners.routes())
    app.on_shutdown.append(partners.emitter.stop)
    serve(app)


if __name__ == "__main__":
    main()
