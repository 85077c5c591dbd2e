"""Healing a mode asks again: the service may be what another fault has taken away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import requests

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.fault import healing as module
from harness.fault import patience

BACK_TO_NORMAL = Healing(action="set_mode", args={"url": "http://x/mode", "mode": "normal", "reason": "over"})
Outcome = int | Exception


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    """What the next requests come to; the last one for ever."""
    coming: list[Outcome] = []

    def ask(method: str, url: str, **_: Any) -> requests.Response:
        outcome = coming.pop(0) if len(coming) > 1 else coming[0]
        if isinstance(outcome, Exception):
            raise outcome
        answer = requests.Response()
        answer.status_code, answer._content = outcome, b"said"
        return answer

    monkeypatch.setattr(patience, "ask", ask)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.1)
    monkeypatch.setattr(patience, "PAUSE_S", 0.01)
    return coming


def heal() -> None:
    module.heal(BACK_TO_NORMAL, None, None)  # type: ignore[arg-type]


def test_it_is_asked_again_until_it_is_done(outcomes: list[Outcome]) -> None:
    outcomes += [requests.ConnectionError("nobody there"), 503, 200]
    heal()
    assert outcomes == [200]


class Starting:
    """A service that somebody else starts between a look at it and the order to start it."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = list(statuses)

    def state(self, service: str) -> Any:
        return SimpleNamespace(status=self.statuses.pop(0))

    def start(self, service: str) -> None:
        raise EnvironmentBroken(f"{service} runs already")


def test_who_is_started_by_somebody_else_meanwhile_is_healed() -> None:
    start = Healing(action="start_service", args={"service": "s"})
    module.heal(start, Starting("dead", "running"), None)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentBroken):
        module.heal(start, Starting("dead", "dead"), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", [requests.ConnectionError("nobody there"), 503])
def test_in_the_end_it_is_an_error_of_the_environment(outcomes: list[Outcome], outcome: Outcome) -> None:
    outcomes.append(outcome)
    with pytest.raises(EnvironmentBroken, match=r"could not set mode normal in 0\.1 s"):
        heal()


def test_what_is_refused_is_not_asked_again(outcomes: list[Outcome]) -> None:
    outcomes += [400, 200]
    with pytest.raises(EnvironmentBroken, match="could not set mode normal: 400 said"):
        heal()
    assert outcomes == [200]


def test_a_stop_ends_the_patience(outcomes: list[Outcome]) -> None:
    outcomes.append(503)
    with pytest.raises(EnvironmentBroken, match="could not close"):
        patience.tell("PUT", "http://x", {}, "close", patience_s=60, stopping=lambda: True)
