"""Edge's choice for a session while charging does not answer: each choice, each kind of answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from billing.common import Metrics, Problem, refused
from billing.edge import failure_handling
from billing.edge.failure_handling import Choice, FailureHandling

Answer = int | web.Response | Problem | None

LOCKDOWN = refused("lockdown").response()
DRAINING = refused("draining").response()
INITIAL = {"type": "initial", "session_id": "s", "subscriber": 1, "service": "data", "requested_units": 700}


def outcome(
    monkeypatch: pytest.MonkeyPatch, choice: Choice, answers: list[Answer], body: dict[str, Any] = INITIAL
) -> tuple[web.Response | Problem, int]:
    """What the client gets, and how often charging was asked. None: charging is silent."""
    monkeypatch.setattr(failure_handling, "TRY_S", 0.02)
    monkeypatch.setattr(failure_handling, "RETRY_AFTER_S", 0.0)
    asked = 0

    async def send(_: web.Request) -> web.Response:
        nonlocal asked
        answer = answers[asked]
        asked += 1
        if answer is None:
            await asyncio.sleep(1)
        if isinstance(answer, Problem):
            raise answer
        return answer if isinstance(answer, web.Response) else web.Response(status=answer or 500)

    async def ask() -> web.Response | Problem:
        request = make_mocked_request("POST", "/credit-control")
        request._read_bytes = json.dumps(body).encode()
        try:
            return await FailureHandling(choice, send, Metrics()).send(request)
        except Problem as problem:
            return problem

    return asyncio.run(ask()), asked


@pytest.mark.parametrize("bad", [None, Problem(502, "no answer"), 500, DRAINING])
def test_continue_grants_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, bad: Answer) -> None:
    answer, asked = outcome(monkeypatch, "continue", [bad])
    assert isinstance(answer, web.Response) and isinstance(answer.body, bytes) and asked == 1
    assert (answer.status, json.loads(answer.body)) == (
        200,
        {"granted_units": 700, "failure_handling": "continue"},
    )


@pytest.mark.parametrize(
    ("choice", "bad", "tries"),
    [("terminate", None, 1), ("terminate", 500, 1), ("retry-and-terminate", None, 2)],
)
def test_terminate_promises_nothing_about_what_may_have_arrived(
    monkeypatch: pytest.MonkeyPatch, choice: Choice, bad: Answer, tries: int
) -> None:
    answer, asked = outcome(monkeypatch, choice, [bad, bad])
    assert isinstance(answer, Problem) and asked == tries
    assert (answer.status, answer.retry_after_s) == (503, None)


def test_a_second_try_may_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, asked = outcome(monkeypatch, "retry-and-terminate", [Problem(504, "silent"), 201])
    assert (answer.status, asked) == (201, 2)


@pytest.mark.parametrize(
    ("answers", "promised"),
    [([DRAINING, DRAINING], True), ([None, DRAINING], False), ([DRAINING, None], False)],
)
def test_nothing_was_done_only_where_each_try_was_refused(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], promised: bool
) -> None:
    answer, _ = outcome(monkeypatch, "retry-and-terminate", answers)
    assert answer.status == 503
    assert (isinstance(answer, web.Response) and "Retry-After" in answer.headers) == promised


@pytest.mark.parametrize("answer", [LOCKDOWN, 201, 402, 404, 422])
@pytest.mark.parametrize("choice", ["terminate", "continue", "retry-and-terminate"])
def test_an_answer_is_passed_on(monkeypatch: pytest.MonkeyPatch, choice: Choice, answer: Answer) -> None:
    passed, asked = outcome(monkeypatch, choice, [answer])
    assert (passed.status, asked) == (answer.status if isinstance(answer, web.Response) else answer, 1)


def test_event_charging_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    event = {"type": "event", "subscriber": 1, "amount_minor": 5, "service": "content"}
    answer, asked = outcome(monkeypatch, "continue", [Problem(502, "no answer")], event)
    assert (answer.status, asked) == (502, 1)
