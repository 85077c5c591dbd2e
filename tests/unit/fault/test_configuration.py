"""Wrong settings: which are refused beforehand, and how a fault puts them in and takes them out again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.experiment.target import Endpoint, Link, Role, Service, TargetSpec
from harness.fault import configuration, one_service
from harness.fault.base import Context
from harness.fault.configuration import BadConfig
from harness.fault.healing import heal
from harness.target.readiness import Answer

READY = Endpoint(port=8081)
RIGHT = {
    "LISTEN": "0.0.0.0:8081",
    "DATABASE_URL": "postgresql://pay@db-1:5432,db-2:5432/billing",
    "PSP_URL": "http://psp:8080",
    "DATA_DIR": "/data",
    "LOG_LEVEL": "info",
}


def service(name: str, **parts: Any) -> Service:
    return Service(name=name, **parts)


SPEC = TargetSpec(
    name="t",
    folder=".",
    services={
        "pay": service("pay", ready=READY, environment=RIGHT, ports=(8081,), volumes={"kept": "/data"}),
        "mute": service("mute", environment={"LOG_LEVEL": "info"}),
        "db-1": service("db-1", ready=READY, environment={"NAME": "db-1"}),
        "db-2": service("db-2", ready=READY, environment={"NAME": "db-2", "MORE": "1"}),
        "psp": service("psp", ready=READY, witness=True, environment={"NAME": "psp"}),
        "other": service("other"),
    },
    links={
        name: Link(name=name, client=name.split("->")[0], server=name.split("->")[1], port=port)
        for name, port in (("pay->db-1", 5432), ("pay->db-2", 5432), ("pay->psp", 8080), ("x->pay", 8081))
    },
    roles={"primary": Role(members=("db-1", "db-2"), endpoint=READY)},
    functions={},
    entry="x->pay",
)


def touches(on: str, environment: dict[str, str], **more: Any) -> tuple[str, ...]:
    params = BadConfig.Params.model_validate({"service": on, "environment": environment, **more})
    return BadConfig.touches(params, SPEC)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "environment",
    [
        {"DATABASE_URL": "postgresql://nobody@db-1:5432,db-2:5432/billing?a=b"},
        {"DATABASE_URL": "postgresql://pay:5432@db-1:9/billing"},
        {"PSP_URL": "http://db-2:5432"},  # another declared link
        {"PSP_URL": "http://other:8089/x"},  # no link at all
        {"PSP_URL": ""},
        {"DATA_DIR": "/data/elsewhere"},
        {"LOG_LEVEL": "loud", "PSP_URL": "http://psp:9"},
    ],
)
def test_what_may_be_wrong(environment: dict[str, str]) -> None:
    assert touches("pay", environment) == ("pay",)


@pytest.mark.parametrize(
    ("on", "environment", "said"),
    [
        (
            "pay",
            {"DATABASE_ULR": "x"},
            "environment: it declares no DATABASE_ULR; did you mean 'DATABASE_URL'",
        ),
        ("pay", {"LOG_LEVEL": "info"}, "LOG_LEVEL of it is 'info' already"),
        ("psp", {"NAME": "x"}, "'psp' is a witness"),
        ("payy", {"NAME": "x"}, "did you mean 'pay'"),
        ("primary", {"MORE": "2"}, "db-1, which may hold that role, declares no MORE"),  # whoever holds it
        ("mute", {"LOG_LEVEL": "loud"}, "'mute' has no readiness endpoint"),
        ("pay", {"DATABASE_URL": "postgresql://pay@localhost:5432/billing"}, "localhost:5432 is no service"),
        ("pay", {"DATABASE_URL": "postgresql://pay@127.0.0.1:5432/x"}, r"127\.0\.0\.1:5432 is no service"),
        (
            "pay",
            {"DATABASE_URL": "postgresql://pay@db-1:5432,localhost/x"},
            "'localhost' is no host with a port",
        ),
        ("pay", {"DATABASE_URL": "postgresql:///billing"}, "'' is no host with a port"),
        ("pay", {"PSP_URL": "http://psp/x"}, "'psp' is no host with a port"),
        ("pay", {"PSP_URL": "http://[::1]:8080/x"}, "is no host with a port"),
        ("pay", {"PSP_URL": "http://psp:5432"}, "port 5432 is that of another link of pay"),
        ("pay", {"LISTEN": "0.0.0.0:8082"}, "it exposes no port 8082, but 8081"),
        (
            "pay",
            {"DATA_DIR": "/etc"},
            "cannot be '/etc': a path outside the service's volumes; write a path in /data",
        ),
        ("pay", {"DATA_DIR": "/database"}, "a path outside"),
    ],
)
def test_what_is_refused_beforehand(on: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        touches(on, environment)


def test_a_service_that_cannot_be_asked_may_be_seen_to_run() -> None:
    assert touches("mute", {"LOG_LEVEL": "loud"}, seen="running") == ("mute",)
    with pytest.raises(ValueError, match="volumes; it has none"):
        touches("mute", {"LOG_LEVEL": "/dev/null"}, seen="running")


def test_a_value_must_be_text_and_there_must_be_one() -> None:
    for environment in ({}, {"LOG_LEVEL": 3}):
        with pytest.raises(ValueError):
            BadConfig.Params.model_validate({"service": "pay", "environment": environment})


class Runtime:
    """One service, whose process holds what it was given at its start."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.given = dict(RIGHT)
        self.deaf = False  # it starts with what it had before
        self.status, self.lives = "running", 1
        self.held = dict(RIGHT)

    def state(self, service: str) -> Any:
        return SimpleNamespace(
            pid=100 + self.lives, incarnation=self.lives, status=self.status, started_ns=self.lives
        )

    def address(self, service: str, port: int) -> str:
        return "nowhere"

    def alive(self, pid: int) -> bool:
        return pid == 100 + self.lives and self.status == "running"

    def environment(self, service: str) -> dict[str, str]:
        if self.status != "running":
            raise EnvironmentBroken(f"{service} does not run")
        return dict(self.held)

    def reconfigure(self, service: str, environment: dict[str, str]) -> dict[str, str]:
        self.told.append("reconfigure")
        self.given = {**RIGHT, **environment}
        return dict(self.given)

    def stop(self, service: str, grace_s: float) -> int:
        self.told.append(f"stop {grace_s:g}")
        self.status = "stopped"
        return 0

    def start(self, service: str) -> None:
        self.told.append("start")
        self.status, self.lives = "running", self.lives + 1
        self.held = dict(RIGHT) if self.deaf else dict(self.given)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    runtime = Runtime()

    def ask(address: Any, endpoint: Endpoint, timeout_s: float = 1.0) -> Answer:
        well = runtime.status == "running" and runtime.held["PSP_URL"] == RIGHT["PSP_URL"]
        return Answer(200 if well else 503, "")

    monkeypatch.setattr(one_service, "ask_endpoint", ask)
    monkeypatch.setattr(configuration, "READY_S", 0.1)
    return runtime


def carried_out(runtime: Runtime, **more: Any) -> BadConfig:
    """From its injection to its proof; ``proof`` has still to be asked for."""
    context = Context(
        spec=SPEC,
        runtime=runtime,  # type: ignore[arg-type]
        links=None,  # type: ignore[arg-type]
        say=print,
        arrivals_per_s=lambda a, b: None,
        stopping=lambda: False,
    )
    params = {"service": "pay", "environment": {"PSP_URL": "http://psp:9"}, "grace": 3.0, **more}
    fault = BadConfig("f1", BadConfig.Params.model_validate(params), context)  # type: ignore[arg-type]
    (healing,) = fault.healings()
    assert (healing.action, healing.args) == ("restore_environment", {"service": "pay", "grace_s": 3.0})
    fault.inject()
    fault.until_ns = 1
    fault.observe()
    fault.still()
    fault.seen["lasted_s"] = 1e9  # the stand-in's clock does not go
    heal(healing, runtime, None)  # type: ignore[arg-type]
    fault.recovered()
    fault.seen["ready_in_s"] = fault.seen["ready_in_s"] and 1.0
    return fault


def test_it_runs_with_the_wrong_values_and_then_with_the_right_ones(runtime: Runtime) -> None:
    fault = carried_out(runtime)
    proof = fault.proof()
    assert proof.proved, proof.text
    assert runtime.told == ["stop 3", "reconfigure", "start", "reconfigure", "stop 3", "start"]
    assert runtime.held == RIGHT and runtime.status == "running"
    assert "psp" not in str(proof.observed) + proof.text, "values may be secrets"


def test_a_service_that_does_not_mind_is_proved_only_where_that_is_enough(runtime: Runtime) -> None:
    loud = {"environment": {"LOG_LEVEL": "loud"}}
    proof = carried_out(runtime, **loud).proof()
    assert (proof.proved, proof.text) == (False, "pay was ready with the wrong values, too")
    fault = carried_out(runtime, seen="running", **loud)
    assert fault.proof().proved and "and ran for" in fault.proof().text


def test_a_start_that_changes_nothing_proves_nothing(runtime: Runtime) -> None:
    runtime.deaf = True
    proof = carried_out(runtime).proof()
    assert not proof.proved and "does not hold the wrong values" in proof.text


def test_what_has_its_own_environment_is_left_running(runtime: Runtime) -> None:
    fault = carried_out(runtime)
    runtime.told.clear()
    (healing,) = fault.healings()
    heal(healing, runtime, None)  # type: ignore[arg-type]
    assert runtime.told == ["reconfigure"]
    runtime.status = "dead"
    heal(healing, runtime, None)  # type: ignore[arg-type]
    assert runtime.told == ["reconfigure", "reconfigure", "start"]
