"""What a runtime cannot do is told before anything is started, and all of it at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from harness.errors import EnvironmentBroken, InputError
from harness.evidence.healing import Healing
from harness.experiment.vocabulary import ABILITIES, RUNTIME_WITH, Ability
from harness.fault.abilities import check_abilities, limiting, unplugging
from harness.fault.healing import heal
from harness.fault.registry import FAULTS
from harness.plan import PlannedFault, make_plan
from harness.target.process import ProcessRuntime
from harness.target.runtime import Limits, RuntimeName
from tests.unit.experiment.words import GOOD, VOCABULARY, load

LINES = (
    '{at: 60s, for: 9s, fault: partition, between: ["*", payments], mode: disconnect}',
    "{at: 80s, for: 5s, fault: cpu, service: db-primary, limit: 0.5, every: 15s, repeat: 2}",
)
TEXT = GOOD.replace("jobs:", "".join(f"  - {line}\n" for line in LINES) + "jobs:")


def planned(text: str) -> tuple[PlannedFault, ...]:
    return make_plan(load(text), VOCABULARY, seed=1).faults


def test_every_fault_beyond_the_runtime_is_told_once_with_who_can() -> None:
    with pytest.raises(InputError) as caught:
        check_abilities(planned(TEXT), "process", ProcessRuntime.abilities)
    assert str(caught.value).splitlines() == [
        "the process runtime cannot do what is asked:",
        "  faults.4: partition on payments must take a service off its networks",
        "  faults.5: cpu on db-primary must limit what a service may use",
        "  hint: --runtime docker",
    ]


def test_one_ability_is_not_the_other() -> None:
    with pytest.raises(InputError) as caught:
        check_abilities(planned(TEXT), "docker", frozenset({"unplug"}))
    assert "faults.5: cpu" in str(caught.value) and "faults.4" not in str(caught.value)


@pytest.mark.parametrize("name", ["process", "docker"])
def test_what_all_can_do_needs_nothing(name: RuntimeName) -> None:
    assert {fault.needs for fault in planned(GOOD)} == {()}
    check_abilities(planned(GOOD), name, frozenset())
    check_abilities(planned(TEXT), name, frozenset({"unplug", "limit"}))


def test_a_plan_says_where_a_fault_stands_and_what_it_needs() -> None:
    said = {(fault.place, fault.fault, fault.needs) for fault in planned(TEXT)}
    assert ("faults.4", "partition", ("unplug",)) in said and ("faults.5", "cpu", ("limit",)) in said
    assert ("faults.1", "partition", ()) in said and ("faults.0", "crash", ()) in said


def test_every_ability_has_words_and_a_runtime() -> None:
    assert set(ABILITIES) == set(RUNTIME_WITH) == set(get_args(Ability))
    assert set(RUNTIME_WITH.values()) <= set(get_args(RuntimeName)) - {"process"}
    assert ProcessRuntime.abilities == frozenset()


def test_a_fault_is_made_by_its_way() -> None:
    made = {
        mode: type(FAULTS["partition"].make("f1", params(mode), None)).__name__  # type: ignore[arg-type]
        for mode in ("drop", "reject", "disconnect")
    }
    assert made == {"drop": "Partition", "reject": "Partition", "disconnect": "Unplug"}


def params(mode: str) -> Any:
    return FAULTS["partition"].Params.model_validate({"between": ["payments", "*"], "mode": mode})


class Able:
    """A runtime that can, and writes down what it is told."""

    abilities = frozenset({"unplug", "limit"})

    def __init__(self) -> None:
        self.told: list[Any] = []

    def plug_in(self, service: str) -> None:
        self.told.append(service)

    def set_limits(self, service: str, limits: Limits) -> None:
        self.told.append((service, limits))


@pytest.mark.parametrize(
    ("action", "args", "told"),
    [
        ("plug_in", {}, "s"),
        ("set_limits", {"cpus": 0, "memory_bytes": 0}, ("s", Limits())),
        ("set_limits", {"cpus": 1.5, "memory_bytes": 0}, ("s", Limits(cpus=1.5))),
        ("set_limits", {"cpus": 0, "memory_bytes": 2**26}, ("s", Limits(memory_bytes=2**26))),
    ],
)
def test_healing_puts_back_what_there_was(action: Any, args: dict[str, Any], told: Any) -> None:
    runtime: Any = Able()
    heal(Healing(action=action, args={"service": "s", **args}), runtime, None)  # type: ignore[arg-type]
    assert runtime.told == [told]


def test_a_runtime_that_cannot_is_told_so_at_work_too() -> None:
    runtime: Any = SimpleNamespace(name="process", abilities=frozenset())
    with pytest.raises(EnvironmentBroken, match="process runtime cannot take a service off its networks"):
        unplugging(runtime)
    with pytest.raises(EnvironmentBroken, match="process runtime cannot limit"):
        limiting(runtime)
