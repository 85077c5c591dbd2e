"""A fault is journalled before it happens and healed whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from harness.errors import LinkError
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import TargetSpec
from harness.fault import carry_out as module
from harness.fault.base import Fault, NoParams
from harness.plan import PlannedFault

PLANNED = PlannedFault(id="f1", fault="toy", at_s=0.0, until_s=0.05)


class Toy(Fault[NoParams]):
    name = "toy"
    family = "test"

    @classmethod
    def touches(cls, params: Any, spec: TargetSpec) -> tuple[str, ...]:
        return ()

    @classmethod
    def proof_needed(cls, params: Any) -> str:
        return ""

    def healings(self) -> tuple[Healing, ...]:
        return tuple(Healing(action="start_service", args={"service": name}) for name in ("one", "two"))

    def inject(self) -> None:
        self.context.say("inject")

    def still(self) -> None:
        self.context.say("still")

    def proof(self) -> Proof:
        return Proof(proved=True, text="seen")


class Breaks(Toy):
    def inject(self) -> None:
        raise LinkError("the engine said no")


class Journal:
    def __init__(self, story: list[str]) -> None:
        self.story = story

    def intend(self, healing: Healing) -> str:
        self.story.append(f"intend {healing.args['service']}")
        return str(healing.args["service"])

    def healed(self, id: str) -> None:
        self.story.append(f"healed {id}")


@pytest.fixture
def story() -> list[str]:
    return []


@pytest.fixture
def context(story: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(
        module, "heal", lambda healing, runtime, links: story.append(f"heal {healing.args['service']}")
    )
    return type(
        "Context",
        (),
        {"say": staticmethod(story.append), "sleep": lambda self, s: None, "runtime": None, "links": None},
    )()


def carry_out(kind: type[Toy], context: Any, story: list[str]) -> Any:
    fault = kind("f1", NoParams(), context)
    return module.carry_out(fault, PLANNED, context, Journal(story), lambda id, state: story.append(state))


def test_healings_are_on_record_before_the_fault_and_carried_out_last_first(
    context: Any, story: list[str]
) -> None:
    record = carry_out(Toy, context, story)
    assert story == [
        "intend one", "intend two", "injected", "inject", "still",
        "heal two", "healed two", "heal one", "healed one", "healed",
    ]  # fmt: skip
    assert record.proof.proved and record.injected_ns < record.healed_ns


def test_a_fault_that_breaks_is_healed_and_proves_nothing(context: Any, story: list[str]) -> None:
    record = carry_out(Breaks, context, story)
    assert "heal two" in story and "heal one" in story
    assert not record.proof.proved
    assert record.error is not None and "the engine said no" in record.error


@pytest.mark.parametrize("problem", [LinkError("gone"), requests.ConnectionError("gone"), KeyError("gone")])
def test_a_healing_that_fails_stops_no_other_and_is_on_record(
    problem: Exception, context: Any, story: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def heal(healing: Healing, runtime: Any, links: Any) -> None:
        if healing.args["service"] == "two":
            raise problem
        story.append(f"heal {healing.args['service']}")

    monkeypatch.setattr(module, "heal", heal)
    record = carry_out(Toy, context, story)
    assert "heal one" in story and "healed two" not in story
    assert not record.proof.proved and "could not heal" in record.proof.text
    assert record.heal_error is not None and "gone" in record.heal_error
    assert record.injected_ns is not None and record.healed_ns is None and "healed" not in story
