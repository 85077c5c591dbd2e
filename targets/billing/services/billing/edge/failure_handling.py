"""What becomes of a session while charging does not answer: edge decides, as the access network would.

The choice is that of RFC 8506 (Credit-Control-Failure-Handling): no service, or service for nothing.
- ``terminate``: 503, and the session is over.
- ``continue``: what was asked for is granted, and nobody charges it: leakage.
- ``retry-and-terminate``: once more after RETRY_AFTER_S, then 503.

Only for sessions, and only where charging gives no answer in TRY_S, or none but that it cannot serve. A
refusal (402, a lockdown) is an answer. A try that was given up may have had its effect: so 503 has a
``Retry-After`` only where each try was refused with one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from aiohttp import web

from billing.common import Metrics, Problem, Settings
from billing.edge.forward import title

TRY_S = 0.8
RETRY_AFTER_S = 0.3

Choice = Literal["terminate", "continue", "retry-and-terminate"]
Send = Callable[[web.Request], Awaitable[web.Response]]


def choice_of(settings: Settings) -> Choice:
    """FAILURE_HANDLING, or the default."""
    chosen = settings.environment.get("FAILURE_HANDLING", "retry-and-terminate")
    choices: tuple[Choice, ...] = get_args(Choice)
    for choice in choices:
        if chosen == choice:
            return choice
    raise SystemExit(f"FAILURE_HANDLING must be one of {', '.join(choices)}, not {chosen!r}")


class FailureHandling:
    """``send`` in place of an upstream's own: the same, but for sessions that it does not serve."""

    def __init__(self, choice: Choice, send: Send, metrics: Metrics) -> None:
        self._choice = choice
        self._send = send
        self._metrics = metrics

    async def send(self, request: web.Request) -> web.Response:
        asked = _session_request(await request.read())
        if asked is None:
            return await self._send(request)
        tries = [await self._try(request)]
        if self._choice == "retry-and-terminate" and not _serves(tries[0]):
            await asyncio.sleep(RETRY_AFTER_S)
            tries.append(await self._try(request))
        last = tries[-1]
        if last is not None and _serves(last) and (last.status < 500 or all(_refused(one) for one in tries)):
            return last
        if self._choice == "continue":
            self._metrics.add("sessions.continued")
            granted = asked.get("requested_units", 0)
            return web.json_response({"granted_units": granted, "failure_handling": "continue"})
        self._metrics.add("sessions.terminated")
        if last is not None and all(_refused(answer) for answer in tries):
            return last
        raise Problem(503, "no service", "charging does not answer; whether it took effect is unknown")

    async def _try(self, request: web.Request) -> web.Response | None:
        """The answer, if there is one in time."""
        try:
            async with asyncio.timeout(TRY_S):
                return await self._send(request)
        except (Problem, TimeoutError):
            return None


def _session_request(content: bytes) -> dict[str, Any] | None:
    """The body, if it is a session's."""
    try:
        body = json.loads(content)
    except ValueError:
        return None
    kinds = ("initial", "update", "terminate")
    return body if isinstance(body, dict) and body.get("type") in kinds else None


def _serves(answer: web.Response | None) -> bool:
    return answer is not None and (answer.status < 500 or title(_body(answer)) == "lockdown")


def _refused(answer: web.Response | None) -> bool:
    """Whether it says that nothing was done."""
    return answer is not None and answer.status == 503 and "Retry-After" in answer.headers


def _body(answer: web.Response) -> bytes:
    return answer.body if isinstance(answer.body, bytes) else b""
