"""The SMS and e-mail gateway: delivers each message id once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import web

from witnesses.common import AnswerTime, EventLog, Refusal, application, field, json_object, serve

FIELDS = ("message_id", "event_id", "recipient", "template", "body")
Message = tuple[str, ...]


class Outbound:
    """What has been delivered, by message id."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._delivered: dict[str, Message] = {}
        for line in log.recovered:
            if line["event"] == "delivered":
                self._delivered[line["message_id"]] = tuple(line[name] for name in FIELDS)

    def deliver(self, message: Message) -> str:
        """``delivered`` or, for a message id seen before, ``replay``; other content is refused."""
        known = self._delivered.get(message[0])
        event = "delivered" if known is None else "replay" if known == message else "refused"
        self._log.append([{"event": event, **dict(zip(FIELDS, message, strict=True))}])
        if event == "refused":
            raise Refusal(422, f"message id {message[0]!r} was used for another message")
        self._delivered[message[0]] = message
        return event


def main() -> None:
    log = EventLog(Path(os.environ["LOG_FILE"]), "gateway")
    outbound = Outbound(log)
    answer_time = AnswerTime("gateway/7", 0.005, 0.015)

    async def messages(request: web.Request) -> web.Response:
        body = await json_object(request)
        message = tuple(field(body, name, str) for name in FIELDS)
        before_s, after_s = answer_time.draw()
        await asyncio.sleep(before_s)
        event = outbound.deliver(message)
        await asyncio.sleep(after_s)
        return web.json_response({"message_id": message[0], "status": event}, status=202)

    app = application(log)
    app.add_routes([web.post("/messages", messages)])
    serve(app)


if __name__ == "__main__":
    main()
