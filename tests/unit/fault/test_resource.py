"""Limits, on a kernel that only counts: who is held back, who is killed, and what is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Service
from harness.fault import resource as module
from harness.fault.base import Context
from harness.fault.healing import heal
from harness.fault.registry import FAULTS
from harness.fault.resource import Limit
from harness.target.runtime import Limits, Usage

MIB = 2**20


class Runtime:
    """One service and its counters. ``dies``: the kernel kills it at the next look at its memory."""

    name = "docker"
    abilities = frozenset({"unplug", "limit"})

    def __init__(self) -> None:
        self.told: list[str] = []
        self.now = Limits()
        self.counted = Usage(cpu_ns=0, periods=0, throttled=0, memory_bytes=40 * MIB, memory_refused=3)
        self.status = "running"
        self.life = 1
        self.obeys = True
        self.refuses = False
        self.dies = False
        self.starved = False

    def state(self, service: str) -> Any:
        return SimpleNamespace(status=self.status, pid=9 + self.life, incarnation=self.life)

    def alive(self, pid: int) -> bool:
        return True

    def limits(self, service: str) -> Limits:
        self._must_run()
        return self.now

    def set_limits(self, service: str, limits: Limits) -> None:
        self.told.append("set_limits")
        if self.refuses:
            raise EnvironmentBroken("device or resource busy")
        self.now = limits if self.obeys or limits == Limits() else self.now

    def usage(self, service: str) -> Usage:
        if self.dies and self.now.memory_bytes:
            self.status, self.starved, self.dies = "dead", True, False
        self._must_run()
        return self.counted

    def out_of_memory(self, service: str) -> bool:
        return self.starved

    def start(self, service: str) -> None:
        self.told.append("start")
        self.status, self.life = "running", self.life + 1

    def _must_run(self) -> None:
        if self.status == "dead":
            raise EnvironmentBroken("it does not run")

    def count(self, **counters: int) -> None:
        self.counted = replace(self.counted, **counters)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """On a clock on which 10 s pass between any two looks."""
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(module, "LOOK_S", 0.0)
    return Runtime()


def limit(runtime: Runtime, kind: str, amount: Any) -> Limit:
    spec: Any = SimpleNamespace(services={"s": Service(name="s")}, roles={})
    context = Context(spec, runtime, None, print, lambda a, b: None, lambda: True)  # type: ignore[arg-type]
    params = FAULTS[kind].Params.model_validate({"service": "s", "limit": amount})
    made = FAULTS[kind].make("f1", params, context)
    assert isinstance(made, Limit)
    return made


def carried_out(
    runtime: Runtime, kind: str, amount: Any, meanwhile: Callable[[], None] = lambda: None
) -> Proof:
    fault = limit(runtime, kind, amount)
    healings = fault.healings()
    fault.inject()
    fault.observe()
    meanwhile()
    fault.still()
    for healing in reversed(healings):
        heal(healing, runtime, None)  # type: ignore[arg-type]
    fault.recovered()
    return fault.proof()


def test_a_service_that_is_held_back_is_proved(runtime: Runtime) -> None:
    proof = carried_out(runtime, "cpu", 0.1, lambda: runtime.count(cpu_ns=10**9, periods=100, throttled=60))
    assert proof.proved, proof.text
    assert "held back in 60 of 100 periods, and used 1.00 s of processor time in 10.0 s" in proof.text
    assert runtime.now == Limits()


@pytest.mark.parametrize(
    ("counters", "says"),
    [
        ({"cpu_ns": 5 * 10**8, "periods": 100}, "was never held back: it did not need more than it got"),
        (  # once, or now and then, is not again and again; its few periods were those in which it ran
            {"cpu_ns": 5 * 10**8, "periods": 12, "throttled": 9},
            "s was held back in 9 periods only, of 100 in that time: it hardly needed more than it got, "
            "0.50 s of processor time in 10.0 s",
        ),
        (
            {"cpu_ns": 12 * 10**8, "periods": 100, "throttled": 60},
            "used 1.20 s of processor time",
        ),
    ],
)
def test_a_limit_that_is_not_felt_or_not_kept_is_not_proved(
    counters: dict[str, int], says: str, runtime: Runtime
) -> None:
    proof = carried_out(runtime, "cpu", 0.1, lambda: runtime.count(**counters))
    assert not proof.proved and says in proof.text


@pytest.mark.parametrize(("kind", "amount"), [("cpu", 0.1), ("memory", "64MiB")])
def test_a_limit_that_the_kernel_does_not_have_is_not_proved(
    kind: str, amount: Any, runtime: Runtime
) -> None:
    runtime.obeys = False
    proof = carried_out(runtime, kind, amount)
    assert not proof.proved and proof.text.startswith("the kernel has a limit of all")


@pytest.mark.parametrize(("kind", "amount"), [("cpu", 0.1), ("memory", "64MiB")])
def test_a_limit_that_is_lifted_early_is_not_proved(kind: str, amount: Any, runtime: Runtime) -> None:
    def early() -> None:
        runtime.count(cpu_ns=10**9, periods=100, throttled=60, memory_refused=10)
        runtime.now = Limits()

    proof = carried_out(runtime, kind, amount, early)
    assert not proof.proved and "before it was healed, with a limit of all" in proof.text


@pytest.mark.parametrize(("used_ms", "kept"), [(119, True), (121, False)])
def test_the_kernel_is_late_by_its_ticks_at_the_least_limit_too(
    used_ms: int, kept: bool, runtime: Runtime
) -> None:
    """A hundredth of a core for 10 s: 100 ms, a tenth of that, and 10 ms at any limit."""
    counted = {"cpu_ns": used_ms * 10**6, "periods": 100, "throttled": 90}
    assert carried_out(runtime, "cpu", 0.01, lambda: runtime.count(**counted)).proved is kept


def test_a_service_that_dies_under_a_processor_limit_is_not_proved(runtime: Runtime) -> None:
    fault = limit(runtime, "cpu", 0.1)
    fault.healings()
    fault.inject()
    fault.observe()
    runtime.status = "dead"
    fault.still()
    fault.recovered()
    assert not fault.proof().proved and "s was dead before it was healed" in fault.proof().text


@pytest.mark.parametrize(
    ("counters", "says"),
    [
        ({"memory_refused": 8}, "s reached its limit of 64MiB 5 times"),
        ({"memory_refused": 4}, "s reached its limit of 64MiB once"),
        ({"oom_kills": 3}, "s lost 2 of its processes, killed for the limit of 64MiB, and lived on"),
        (
            {"memory_refused": 8, "oom_kills": 2},
            "s reached its limit of 64MiB 5 times and lost 1 of its processes, killed for the limit of "
            "64MiB, and lived on",
        ),
    ],
)
def test_a_memory_limit_that_is_reached_is_proved_by_what_was_seen(
    counters: dict[str, int], says: str, runtime: Runtime
) -> None:
    runtime.count(oom_kills=1)  # long before
    proof = carried_out(runtime, "memory", "64MiB", lambda: runtime.count(**counters))
    assert (proof.proved, proof.text) == (True, says)
    assert runtime.told == ["set_limits", "set_limits"]  # it never ended, so it is not started


def test_a_memory_limit_that_is_never_reached_is_not_proved(runtime: Runtime) -> None:
    proof = carried_out(runtime, "memory", "64MiB", lambda: runtime.count(memory_bytes=50 * MIB))
    assert not proof.proved
    assert proof.text == "s never reached its limit: it used at most 50MiB of 64MiB"


def test_a_service_that_is_killed_for_memory_is_proved_and_started_without_its_limit(
    runtime: Runtime,
) -> None:
    runtime.dies = True
    proof = carried_out(runtime, "memory", "64MiB")
    assert proof.proved, proof.text
    assert "was killed when it needed more than 64MiB" in proof.text
    assert runtime.told == ["set_limits", "set_limits", "start"] and runtime.now == Limits()


def test_a_service_that_ended_of_something_else_is_not_proved(runtime: Runtime) -> None:
    def crash() -> None:
        runtime.status = "dead"

    proof = carried_out(runtime, "memory", "64MiB", crash)
    assert not proof.proved and "s was dead before it was healed" in proof.text


SEEN: dict[str, Any] = {
    **{"status_before": "running", "status_at_end": "running", "status_after": "running"},
    **{"incarnation_before": 1, "incarnation_at_end": 1, "incarnation_after": 1},
    **{"pid_before": 10, "pid_after": 10, "limit_before": None, "limit_after": None},
}
SEEN_OF = {
    "cpu": {"limit_during": 0.1, "limit_at_end": 0.1}
    | {"elapsed_s": 10.0, "used_s": 1.0, "periods": 100, "throttled": 80},
    "memory": {"limit_during": 64 * MIB, "limit_at_end": 64 * MIB}
    | {"killed": False, "reached": 7, "killed_in_it": 0, "most_used": 63 * MIB},
}


@pytest.mark.parametrize(("kind", "amount"), [("cpu", 0.1), ("memory", "64MiB")])
@pytest.mark.parametrize(
    ("row", "why_not"),
    [
        ({"status_before": "paused"}, "was paused before"),
        ({"limit_during": None}, "the kernel has a limit of all"),
        ({"limit_during": 32 * MIB}, "the kernel has a limit of"),
        ({"status_at_end": "paused"}, "was paused before it was healed, with a limit of"),
        ({"status_at_end": "dead"}, "was dead before it was healed, with a limit of"),
        ({"incarnation_at_end": 2}, "was running before it was healed, with a limit of"),
        ({"limit_at_end": None}, "was running before it was healed, with a limit of all"),
        ({"status_after": "dead"}, "was dead after the healing, or another process"),
        ({"incarnation_after": 2}, "was running after the healing, or another process"),
        ({"pid_after": 11}, "was running after the healing, or another process"),
        ({"limit_after": 8 * MIB}, " before, and 8"),
    ],
)
def test_whatever_is_missing_is_said(
    row: dict[str, Any], why_not: str, kind: str, amount: Any, runtime: Runtime
) -> None:
    fault = limit(runtime, kind, amount)
    fault.service = "s"
    fault.seen = {**SEEN, **SEEN_OF[kind]}
    assert fault.proof().proved, fault.proof().text
    fault.seen |= row
    assert not fault.proof().proved and why_not in fault.proof().text


def test_a_limit_that_is_refused_breaks_the_fault_with_the_figures(runtime: Runtime) -> None:
    runtime.refuses = True
    fault = limit(runtime, "memory", "32MiB")
    fault.healings()
    with pytest.raises(EnvironmentBroken, match="could not be limited to 32MiB, it uses 40MiB: device or"):
        fault.inject()


@pytest.mark.parametrize(
    ("kind", "amount", "had", "says"),
    [
        ("cpu", 0.5, Limits(cpus=0.25), "no more than 0.25 cores already; 0.5 cores is no limit"),
        ("memory", "64MiB", Limits(memory_bytes=64 * MIB), "no more than 64MiB already"),
    ],
)
def test_a_limit_that_gives_more_is_none(
    kind: str, amount: Any, had: Limits, says: str, runtime: Runtime
) -> None:
    runtime.now = had
    with pytest.raises(EnvironmentBroken, match=says):
        limit(runtime, kind, amount).healings()


def test_the_other_limit_stays_and_both_are_put_back(runtime: Runtime) -> None:
    runtime.now = Limits(cpus=1.5, memory_bytes=256 * MIB)
    fault = limit(runtime, "memory", "64MiB")
    start, lift = fault.healings()
    assert start == Healing(action="start_service", args={"service": "s"})
    assert lift.args == {"service": "s", "cpus": 1.5, "memory_bytes": 256 * MIB}
    fault.inject()
    assert runtime.now == Limits(cpus=1.5, memory_bytes=64 * MIB)


def test_counters_that_cannot_be_read_of_a_living_service_are_an_error(runtime: Runtime) -> None:
    fault = limit(runtime, "memory", "64MiB")
    fault.healings()
    fault.inject()

    def broken(service: str) -> Usage:
        raise EnvironmentBroken("no counters")

    runtime.usage = broken  # type: ignore[method-assign]
    with pytest.raises(EnvironmentBroken, match="no counters"):
        fault.observe()


@pytest.mark.parametrize(
    ("kind", "amount", "says"),
    [
        ("cpu", 0.001, "0.001 cores is out of range: from 0.01 to 64"),
        ("cpu", 65, "65 cores is out of range"),
        ("cpu", "100m", "'100m' is not a number of cores; write 0.5 or 2"),
        ("cpu", True, "True is not a number of cores"),
        ("cpu", float("nan"), "nan is not a number of cores"),
        ("memory", "5MiB", "5MiB is out of range: at least 6MiB"),
        ("memory", "64MB", "unknown unit 'MB'; units are KiB, MiB, GiB; did you mean 64MiB"),
        ("memory", "2g", "did you mean 2GiB"),
        ("memory", "64", "'64' has no unit; did you mean 64MiB"),
        ("memory", "-64MiB", "is negative"),
        ("memory", "lots", "'lots' is not a size; write 512KiB, 64MiB or 2GiB"),
        ("memory", "", "is not a size"),
    ],
)
def test_limits_that_nobody_could_set(kind: str, amount: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FAULTS[kind].Params.model_validate({"service": "s", "limit": amount})


@pytest.mark.parametrize(
    ("written", "size_bytes"), [("64MiB", 64 * MIB), ("1.5 GiB", 1536 * MIB), ("6144KiB", 6 * MIB)]
)
def test_sizes_are_binary(written: str, size_bytes: int) -> None:
    params: Any = FAULTS["memory"].Params.model_validate({"service": "s", "limit": written})
    assert params.limit == size_bytes
