"""How faults on one service are carried out, with a runtime that only writes down what it is told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.experiment.target import Endpoint, Role, Service
from harness.fault import lifecycle
from harness.fault.base import Context
from harness.fault.lifecycle import Pause
from harness.fault.registry import FAULTS


class Runtime:
    """One service, which is running."""

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


class Fleet(Runtime):
    """Services that can be stopped and started."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = {"a": 1, "b": 1, "c": 1}
        self.down: set[str] = set()

    def state(self, service: str) -> Any:
        lives = self.lives[service]
        status = "stopped" if service in self.down else "running"
        return SimpleNamespace(pid=f"{service}{lives}", incarnation=lives, status=status)

    def alive(self, pid: Any) -> bool:
        return any(pid == self.state(name).pid and name not in self.down for name in self.lives)

    def stop(self, service: str, grace_s: float) -> int:
        self.told.append(f"stop {service}")
        self.down.add(service)
        return 0

    def start(self, service: str) -> None:
        self.told.append(f"start {service}")
        self.down.discard(service)
        self.lives[service] += 1

    def role(self, name: str) -> str:
        return "c"


FLEET = SimpleNamespace(
    services={name: Service(name=name, ready=Endpoint(port=9)) for name in "abc"}
    | {"mute": Service(name="mute")},
    roles={"leader": Role(members=("b", "c"), endpoint=Endpoint(port=9))},
)


def rolling(runtime: Fleet, monkeypatch: pytest.MonkeyPatch, unready: str = "", first: str = "a") -> Any:
    def ready_within(context: Context, service: str, timeout_s: float) -> float | None:
        runtime.told.append(f"await {service} {timeout_s:g}")
        return None if service == unready else 0.5

    monkeypatch.setattr(lifecycle, "ready_within", ready_within)
    kind = FAULTS["rolling_restart"]
    params = kind.Params.model_validate({"services": [first, "leader"], "ready_within": 7.0})
    fault = kind("f1", params, replace(context(runtime, None), spec=FLEET))
    healed = [healing.args["service"] for healing in fault.healings()]
    assert healed == list(dict.fromkeys([first, "b", "c"])), "whoever may lead"
    fault.inject()
    return fault


def test_one_is_restarted_after_the_other_when_that_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Fleet()
    fault = rolling(runtime, monkeypatch)
    assert runtime.told == ["stop a", "start a", "await a 7", "stop c", "start c", "await c 7"]
    proof = fault.proof()
    assert proof.proved and fault.touched() == ("a", "c") and proof.text.count("ready after 0.5 s") == 2


def test_it_halts_at_one_that_does_not_get_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Fleet()
    proof = rolling(runtime, monkeypatch, unready="a").proof()
    assert runtime.told == ["stop a", "start a", "await a 7"]
    assert not proof.proved and "was not ready within 7 s; leader had no turn" in proof.text


def test_a_role_that_moved_to_one_that_had_its_turn_leaves_another_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proof = rolling(Fleet(), monkeypatch, first="c").proof()
    assert not proof.proved and proof.text.endswith("; c had two turns")


@pytest.mark.parametrize(
    ("services", "said"),
    [
        (["a", "b", "a"], "'a' is named twice"),
        (["a", "d"], "no service or role is called 'd'"),
        (["a", "mute"], "'mute' has no readiness endpoint"),
    ],
)
def test_whose_turn_cannot_come_is_known_beforehand(services: list[str], said: str) -> None:
    kind = FAULTS["rolling_restart"]
    with pytest.raises(ValueError, match=said):
        kind.touches(kind.Params.model_validate({"services": services}), FLEET)  # type: ignore[arg-type]
