"""Toxiproxy's HTTP API: paths, methods, status codes and bodies as in release 2.12."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from harness.toxiproxy.builtin import VERSION
from harness.toxiproxy.builtin.engine import Proxies
from harness.toxiproxy.builtin.http import Request, Response
from harness.toxiproxy.builtin.specs import ApiError

log = logging.getLogger("toxiproxy")

TEXT = "text/plain; charset=utf-8"


class Routes:
    """Answers requests about ``proxies``."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._one_at_a_time = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        if request.headers.get("user-agent", "").startswith("Mozilla/"):  # no web page may drive us
            return Response(403, b"User agent not allowed\n", TEXT)
        try:
            return await self._route(request)
        except ApiError as error:
            body = json.dumps({"error": error.message, "status": error.status})
            return Response(error.status, body.encode() + b"\n", TEXT)
        except Exception as error:  # one broken request must not end the engine under a running experiment
            log.exception("%s /%s failed", request.method, "/".join(request.segments))
            body = json.dumps({"error": f"{type(error).__name__}: {error}", "status": 500})
            return Response(500, body.encode() + b"\n", TEXT)

    async def _route(self, request: Request) -> Response:
        actions: dict[str, Action]
        match request.segments:
            case ("proxies",):
                actions = {"GET": self._list, "POST": self._create}
            case ("proxies", name) if name:
                actions = self._on_proxy(name)
            case ("proxies", name, "toxics"):
                actions = self._on_toxics(name)
            case ("proxies", name, "toxics", toxic) if toxic:
                actions = self._on_toxic(name, toxic)
            case ("populate",):
                actions = {"POST": self._populate}
            case ("reset",):
                actions = {"POST": self._reset}
            case ("version",):
                actions = {"GET": self._version}
            case ("metrics",):
                actions = {"GET": self._metrics}
            case _:
                return Response(404, b"404 page not found\n", TEXT)
        action = actions.get(request.method)
        if action is None:
            return Response(405)
        async with self._one_at_a_time:  # starting to listen gives way to others in the middle of a change
            return await action(request)

    # --- the whole engine -------------------------------------------------------------------------
    async def _list(self, request: Request) -> Response:
        return _json(200, {name: proxy.show() for name, proxy in sorted(self._proxies.by_name.items())})

    async def _create(self, request: Request) -> Response:
        return _json(201, (await self._proxies.create(_object(request))).show())

    async def _populate(self, request: Request) -> Response:
        entries = _body(request)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ApiError(400, "bad request body: an array of proxies is expected")
        return _json(201, {"proxies": [proxy.show() for proxy in await self._proxies.populate(entries)]})

    async def _reset(self, request: Request) -> Response:
        await self._proxies.reset()
        return Response(204)

    async def _version(self, request: Request) -> Response:
        return _json(200, {"version": VERSION})

    async def _metrics(self, request: Request) -> Response:
        return Response(200, self._proxies.metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")

    # --- one proxy, its toxics ----------------------------------------------------------------------
    def _on_proxy(self, name: str) -> dict[str, Action]:
        async def show(request: Request) -> Response:
            return _json(200, self._proxies.get(name).show())

        async def update(request: Request) -> Response:
            self._proxies.get(name)
            return _json(200, (await self._proxies.update(name, _object(request))).show())

        async def delete(request: Request) -> Response:
            self._proxies.remove(name)
            return Response(204)

        return {"GET": show, "POST": update, "PATCH": update, "DELETE": delete}

    def _on_toxics(self, name: str) -> dict[str, Action]:
        async def show(request: Request) -> Response:
            return _json(200, self._proxies.get(name).show()["toxics"])

        async def add(request: Request) -> Response:
            return _json(200, self._proxies.get(name).add_toxic(_object(request)).show())

        return {"GET": show, "POST": add}

    def _on_toxic(self, name: str, toxic: str) -> dict[str, Action]:
        async def show(request: Request) -> Response:
            return _json(200, self._proxies.get(name).find_toxic(toxic).show())

        async def update(request: Request) -> Response:
            return _json(200, self._proxies.get(name).update_toxic(toxic, _object(request)).show())

        async def delete(request: Request) -> Response:
            self._proxies.get(name).remove_toxic(toxic)
            return Response(204)

        return {"GET": show, "POST": update, "PATCH": update, "DELETE": delete}


Action = Callable[[Request], Awaitable[Response]]


def _json(status: int, content: Any) -> Response:
    return Response(status, json.dumps(content, separators=(",", ":")).encode())


def _body(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except ValueError as error:
        raise ApiError(400, f"bad request body: {error}") from error


def _object(request: Request) -> dict[str, Any]:
    content = _body(request)
    if not isinstance(content, dict):
        raise ApiError(400, f"bad request body: an object is expected, not {content!r:.50}")
    return content
