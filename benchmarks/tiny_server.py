"""A small, fast HTTP/1.1 server for tests and benchmarks of the load room: raw bytes over asyncio.

A handler decides each answer, from ``Request`` to ``Reply``; the default answers 200 at once. It runs
in a thread (``TinyServer``) or, so that it does not share a benchmark's interpreter, as a process:
``python benchmarks/tiny_server.py`` prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """``delay_s`` before it is sent. ``raw`` is sent as it is, then the connection closed."""

    status: int = 200
    json: Any = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    raw: bytes | None = None


Handler = Callable[[Request], Reply]


class _Connection(asyncio.Protocol):
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._take()) is not None:
            reply = self._handler(request)
            if reply.delay_s:
                asyncio.get_running_loop().call_later(reply.delay_s, self._send, reply)
            else:
                self._send(reply)

    def _take(self) -> Request | None:
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        method, path, _ = first.split(" ")
        return Request(method, path, headers, rest[:length])

    def _send(self, reply: Reply) -> None:
        assert self._transport is not None
        if reply.raw is not None:
            self._transport.write(reply.raw)
            self._transport.close()
            return
        body = json.dumps(reply.json).encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        head = (
            f"HTTP/1.1 {reply.status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        self._transport.write(f"{head}{extra}\r\n".encode() + body)


class TinyServer:
    """Serves on a free loopback port from a thread of its own; a context manager."""

    def __init__(self, handler: Handler = lambda request: Reply()) -> None:
        self._handler = handler
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0
        self.connections = 0  # accepted in all

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> TinyServer:
        self._thread.start()
        serving = self._loop.create_server(self._accept, "127.0.0.1", 0, backlog=4096)
        server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(5)
        self.port = server.sockets[0].getsockname()[1]
        return self

    def _accept(self) -> _Connection:
        self.connections += 1
        return _Connection(self._handler)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


if __name__ == "__main__":
    with TinyServer() as server:
        print(server.port, flush=True)
        sys.stdin.read()
