"""As much of HTTP/1.1 as an admin API on loopback needs: small requests, one answer each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

log = logging.getLogger("toxiproxy")

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 16 * 1024 * 1024
REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Request:
    """``segments`` is the path, split at slashes, each part unquoted."""

    method: str
    segments: tuple[str, ...]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class BadRequest(Exception):
    """Not HTTP, or more of it than is taken. The connection is given up after the answer."""


async def serve(handler: Handler, host: str, port: int) -> asyncio.Server:
    """Listen; raises OSError when the address is taken."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(reader, writer, handler)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            log.debug("an API client left in the middle of a request")
        finally:
            writer.close()

    return await asyncio.start_server(converse, host, port, limit=HEAD_LIMIT)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    keep = True
    while keep:
        try:
            request = await asyncio.wait_for(_read_request(reader), REQUEST_TIMEOUT_S)
        except BadRequest as error:
            writer.write(_render(Response(400, str(error).encode(), "text/plain"), keep=False))
            return
        if request is None:
            return
        keep = request.headers.get("connection", "").lower() != "close"
        writer.write(_render(await handler(request), keep))
        await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("request head too large") from error
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, _ = first.split(" ")
        headers = {
            key.strip().lower(): value.strip()
            for key, value in (line.split(":", 1) for line in lines if line)
        }
        length = int(headers.get("content-length", "0"))
    except ValueError as error:
        raise BadRequest("not an HTTP/1.1 request") from error
    if "transfer-encoding" in headers or not 0 <= length <= BODY_LIMIT:
        raise BadRequest(f"a body needs a Content-Length of at most {BODY_LIMIT}")
    path = urlsplit(target).path
    segments = tuple(unquote(part) for part in path.removeprefix("/").split("/"))
    return Request(method, segments, headers, await reader.readexactly(length))


def _render(response: Response, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        *(f"{key}: {value}" for key, value in response.headers.items()),
    ]
    if response.status != HTTPStatus.NO_CONTENT:
        lines += [f"Content-Type: {response.content_type}", f"Content-Length: {len(response.body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body
