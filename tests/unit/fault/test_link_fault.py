"""What a fault on links refuses before it breaks anything, and how long it may look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.experiment.target import Endpoint, Link, Role
from harness.fault.base import Context, Fault
from harness.fault.registry import FAULTS
from harness.toxiproxy.links import LinkState
from harness.toxiproxy.toxics import Latency, ResetPeer, Toxic

ROLE = Role(members=("b", "c"), endpoint=Endpoint(port=1))
SPEC = SimpleNamespace(
    links={name: Link(name=name, client=name[0], server=name[3], port=1) for name in ("a->b", "a->c")},
    services={"a": None, "b": None, "c": None},
    roles={"leader": ROLE},
)


def fault(
    kind: str, params: dict[str, Any], *, enabled: bool = True, toxics: Mapping[str, Toxic] | None = None
) -> Fault[Any]:
    state = LinkState("a->b", "x:1", "x:2", enabled, toxics or {})
    context = Context(
        spec=SPEC,  # type: ignore[arg-type]
        runtime=SimpleNamespace(role=lambda name: None),  # type: ignore[arg-type]
        links=SimpleNamespace(state=lambda name: state),  # type: ignore[arg-type]
        say=print,
        arrivals_per_s=lambda a, b: None,
        stopping=lambda: False,
    )
    made = FAULTS[kind]
    return made("f1", made.Params.model_validate(params), context)


OWN: Mapping[str, dict[str, Any]] = {
    "partition": {"between": ["a", "b"], "mode": "reject"},
    "latency": {"links": "a->b", "latency": 0.1},
    "reset": {"links": "a->b"},
}


@pytest.mark.parametrize("kind", OWN)
def test_a_link_that_another_fault_opens_and_closes_is_left_alone(kind: str) -> None:
    held: dict[str, Any]
    for held in ({"enabled": False}, {"toxics": {"f0-downstream": ResetPeer(timeout=0)}}):
        with pytest.raises(EnvironmentBroken, match="cuts a->b already"):
            fault(kind, OWN[kind], **held).healings()
    assert fault(kind, OWN[kind], toxics={"f0-downstream": Latency(latency=5)}).healings()


@pytest.mark.parametrize("between", [["a", "leader"], ["leader", "a"], ["a", ["b", "leader"]]])
def test_a_role_that_nobody_holds_is_an_error_not_a_smaller_cut(between: list[Any]) -> None:
    with pytest.raises(EnvironmentBroken, match="nobody holds the role 'leader'"):
        fault("partition", {"between": between}).healings()


def test_no_canary_is_waited_for_past_the_healing() -> None:
    late: Any = fault("latency", {"links": "a->b", "latency": 60.0})
    late.until_ns = time.time_ns() + int(2e9)
    assert late.patience_s(120.0) <= 2.0
