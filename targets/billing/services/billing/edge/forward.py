"""Carrying a client's request to the service that answers it, and the answer back, as they are."""

from __future__ import annotations

import json
from collections.abc import Callable

import aiohttp
from aiohttp import web

from billing.common import Metrics, Problem, describe
from billing.common.http_client import NOT_SENT
from billing.edge.status import Component

REQUEST_HEADERS = ("Content-Type", "Idempotency-Key", "X-File-Name")
ANSWER_HEADERS = ("Content-Type", "Retry-After")


class Upstream:
    """One service behind edge. ``timeout_s`` is longer than the service's own patience."""

    def __init__(
        self,
        name: str,
        url: str,
        component: Component,
        metrics: Metrics,
        timeout_s: float,
        met: Callable[[str, int], None],
    ) -> None:
        """``met(name, subscriber)`` is told whose request was not served."""
        self.name = name
        self._met = met
        self._url = url
        self._component = component
        self._metrics = metrics
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=1.0)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: web.Request) -> web.Response:
        """The service's answer; Problem 502 or 504 when there is none. Never sent twice."""
        content = await request.read()
        headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
        self._metrics.add(f"{self.name}.attempts")
        with self._component.visit(request.method) as visit:
            try:
                answer, body = await self._exchange(request, content, headers)
                visit.good = self._served(answer.status, body)
            finally:
                if not visit.good and (subscriber := _subscriber(request, content)) is not None:
                    self._met(self.name, subscriber)
        passed = {name: answer.headers[name] for name in ANSWER_HEADERS if name in answer.headers}
        return web.Response(body=body, status=answer.status, headers=passed)

    async def _exchange(
        self, request: web.Request, content: bytes, headers: dict[str, str]
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        try:
            async with self._open().request(
                request.method,
                self._url + request.path_qs,
                data=content or None,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as answer:
                return answer, await answer.read()
        except NOT_SENT as error:
            raise self._no_answer(502, error) from error
        except TimeoutError as error:
            raise self._no_answer(504, error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._no_answer(502, error) from error

    def _served(self, status: int, body: bytes) -> bool:
        """Whether the client got what the component is there for."""
        if status == 202 and self.name == "payments":
            return False  # its fate is unknown: an answer, and not the service that was promised
        # What a lockdown refuses is refused on purpose: the component is well.
        return status < 500 or (status == 503 and title(body) == "lockdown")

    def _no_answer(self, status: int, error: Exception) -> Problem:
        self._metrics.add(f"{self.name}.failures")
        return Problem(status, f"no answer from {self.name}", describe(error))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def title(body: bytes) -> str | None:
    """Of a problem document."""
    try:
        return str(json.loads(body)["title"])
    except (ValueError, KeyError, TypeError):
        return None


def _subscriber(request: web.Request, content: bytes) -> int | None:
    """Whom a request is about, where its body, its path or its query says so in a way that makes sense."""
    if not content:
        told = request.match_info.get("subscriber") or request.query.get("subscriber", "")
        return int(told) if told.isascii() and told.isdigit() and len(told) <= 15 else None
    try:
        body = json.loads(content)
        # A visitor's number is one of the partner's own: nobody of ours.
        said = body["subscriber"] if body.get("visitor_of") is None else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return said if type(said) is int and 0 < said <= 10**15 else None
