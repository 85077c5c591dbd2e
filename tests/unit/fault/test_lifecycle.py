"""How faults on one service are carried out, with a runtime that only writes down what it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.experiment.target import Endpoint, Service
from harness.fault import lifecycle
from harness.fault.base import Context
from harness.fault.lifecycle import Pause
from harness.fault.registry import FAULTS


class Runtime:
    """One service, which is running, and another life once it was started anew."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.status = "running"

    def state(self, service: str) -> Any:
        return SimpleNamespace(pid=10, incarnation=1, status=self.status)

    def address(self, service: str, port: int) -> str:
        return "127.0.0.1:9"  # nobody listens there

    def alive(self, pid: int) -> bool:
        return pid == 10 and not {"kill", "stop"} & set(self.told)

    def stands_still(self, service: str) -> bool:
        return self.status == "paused"

    def pause(self, service: str) -> None:
        self.told.append("pause")
        self.status = "paused"

    def kill(self, service: str) -> None:
        self.told.append("kill")

    def stop(self, service: str, grace_s: float) -> int:
        self.told.append("stop")
        return 0


def context(runtime: Runtime, ready: Endpoint | None) -> Context:
    return Context(
        spec=SimpleNamespace(services={"s": Service(name="s", ready=ready)}, roles={}),  # type: ignore[arg-type]
        runtime=runtime,  # type: ignore[arg-type]
        links=None,  # type: ignore[arg-type]
        say=print,
        arrivals_per_s=lambda a, b: None,
        stopping=lambda: False,
    )


def test_a_late_look_is_still_a_look() -> None:
    """However little time is left: to wait no time at all is an error, not an answer."""
    fault = Pause("f1", Pause.Params.model_validate({"service": "s"}), context(Runtime(), Endpoint(port=9)))  # type: ignore[arg-type]
    fault.healings()
    fault.inject()
    fault.until_ns = 1
    fault.observe()
    assert fault.seen["silent"] is True


def paused(ready: Endpoint | None) -> Pause:
    runtime = Runtime()
    fault = Pause("f1", Pause.Params.model_validate({"service": "s"}), context(runtime, ready))  # type: ignore[arg-type]
    fault.healings()
    fault.inject()
    fault.observe()
    fault.still()
    runtime.status = "running"
    fault.recovered()
    return fault


def test_a_pause_of_a_service_that_cannot_be_asked_is_proved_by_its_processes() -> None:
    fault = paused(None)
    proof = fault.proof()
    assert proof.proved
    assert "no readiness endpoint" in proof.text and "silent" not in proof.observed


def test_a_pause_of_a_service_that_did_not_answer_before_is_not_proved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "wait_for_answer", lambda *_, **__: False)
    proof = paused(Endpoint(port=1)).proof()
    assert not proof.proved and "did not answer before either" in proof.text


@pytest.mark.parametrize(
    ("kind", "told", "action"),
    [
        ("crash", "kill", "start_service"),
        ("pause", "pause", "resume_service"),
        ("restart", "stop", "start_service"),
    ],
)
def test_one_service_is_hit_and_undone(kind: str, told: str, action: str) -> None:
    runtime = Runtime()
    fault = FAULTS[kind]("f1", FAULTS[kind].Params.model_validate({"service": "s"}), context(runtime, None))
    (healing,) = fault.healings()
    assert (healing.action, healing.args) == (action, {"service": "s"})
    fault.inject()
    assert runtime.told == [told] and fault.touched() == ("s",)
    assert (fault.seen["pid_before"], fault.seen["status_before"]) == (10, "running")
    assert fault.gone() == (told != "pause")
