"""What the witnesses share: the log on disk, the answer times, and the web application around them.

A line is with the operating system before the answer leaves; witnesses are never faulted, so that
is enough. Whatever state a witness has, it can be rebuilt from the lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

Record = Mapping[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """The witness says no: an HTTP status, one sentence, and further fields of the answer."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.more = more


class EventLog:
    """Append-only JSON lines, each with ``seq`` (from 1), ``at_ns`` (epoch) and ``witness``."""

    def __init__(self, path: Path, witness: str) -> None:
        self.path = path
        self._witness = witness
        path.parent.mkdir(parents=True, exist_ok=True)
        self.recovered = _complete_lines(path)
        self._seq = self.recovered[-1]["seq"] if self.recovered else 0
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, records: Iterable[Record]) -> int:
        """Write the records, in one piece; returns the ``seq`` of the first."""
        first = self._seq + 1
        now_ns = time.time_ns()
        lines = []
        for record in records:
            self._seq += 1
            head = {"seq": self._seq, "at_ns": now_ns, "witness": self._witness}
            lines.append(json.dumps({**head, **record}, separators=(",", ":")) + "\n")
        _write_all(self._fd, "".join(lines).encode())
        return first

    def close(self) -> None:
        os.close(self._fd)


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """The log's records; a torn last line (never answered for) is cut off."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class AnswerTime:
    """Draws how long an answer takes, from a fixed seed: in two parts, before and after the deed.

    So a caller that gives up may do so on either side of the effect, as with a real provider.
    """

    def __init__(self, seed: str, low_s: float, high_s: float) -> None:
        self._random = random.Random(seed)
        self._low_s = low_s
        self._high_s = high_s

    def draw(self) -> tuple[float, float]:
        """Seconds before and seconds after the deed."""
        total_s = self._random.uniform(self._low_s, self._high_s)
        before_s = total_s * self._random.random()
        return before_s, total_s - before_s


async def json_object(request: web.Request) -> dict[str, Any]:
    """The request's body, or a 400."""
    try:
        body = await request.json()
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, f"the body must be an object, not {type(body).__name__}")
    return body


def field(body: Record, name: str, kind: type) -> Any:
    """One required field of the body, or a 400 that names it."""
    value = body.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refusal(400, f"{name!r} must be {kind.__name__}, not {value!r}")
    return value


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        problem = {
            "type": "about:blank",
            "title": "refused",
            "status": refusal.status,
            "detail": refusal.detail,
            **refusal.more,
        }
        return web.json_response(problem, status=refusal.status, content_type="application/problem+json")


def application(log: EventLog) -> web.Application:
    """An application with ``/live``, ``/ready`` and ``/log``; the witness adds its own routes."""

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def whole_log(_: web.Request) -> web.FileResponse:
        return web.FileResponse(log.path, headers={"Content-Type": "application/x-ndjson"})

    async def close_log(_: web.Application) -> None:
        log.close()

    app = web.Application(middlewares=[_problems], client_max_size=4 * 2**20)
    app.add_routes([web.get("/live", alive), web.get("/ready", alive), web.get("/log", whole_log)])
    app.on_cleanup.append(close_log)
    return app


def serve(app: web.Application) -> None:
    """Listen on ``LISTEN`` (host:port) until SIGTERM or SIGINT."""
    host, _, port = os.environ["LISTEN"].rpartition(":")
    uvloop.run(_serve(app, host, int(port)))


async def _serve(app: web.Application, host: str, port: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    await ended.wait()
    await runner.cleanup()
