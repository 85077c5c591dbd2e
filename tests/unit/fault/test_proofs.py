"""From what was seen to a proof: each missing observation, alone, must cost the proof."""

from __future__ import annotations

from typing import Any

import pytest

from harness.experiment.target import Link
from harness.fault.base import Fault, NoParams
from harness.fault.lifecycle import Restart
from harness.fault.link_fault import idle_clients
from harness.fault.registry import FAULTS
from tests.unit.fault.proof_cases import CASES, RESTART_GOOD


class FakeSpec:
    links = {  # noqa: RUF012
        name: Link(name=name, client=name[0], server=name[3], port=1) for name in ("a->b", "a->s", "x->b")
    }
    switchover = type("Switch", (), {"role": "db-primary", "candidate_role": "db-standby"})()


def proved(kind: type[Fault[Any]], params: dict[str, Any], seen: dict[str, Any]) -> bool:
    context: Any = type("Context", (), {"spec": FakeSpec()})()
    fault = kind("f1", kind.Params.model_validate(params), context)
    fault.seen.update(seen)
    return fault.proof().proved


@pytest.mark.parametrize(("kind", "params", "good", "damages"), CASES, ids=[case[0].name for case in CASES])
def test_every_observation_counts(
    kind: type[Fault[Any]], params: dict[str, Any], good: dict[str, Any], damages: list[dict[str, Any]]
) -> None:
    assert proved(kind, params, good)
    for damage in damages:
        assert not proved(kind, params, {**good, **damage}), damage
    assert not proved(kind, params, {}), "nothing was seen at all"


def test_every_family_of_proof_is_covered() -> None:
    """Latency and reset share the proof of partition."""
    covered = {kind.name for kind, *_ in CASES} | {"latency", "reset"}
    assert covered == set(FAULTS)


def test_a_restart_that_had_to_be_killed_says_so() -> None:
    fault = Restart("f1", Restart.Params.model_validate({"service": "s", "grace": 5.0}), None)  # type: ignore[arg-type]
    fault.seen.update({**RESTART_GOOD, "exit_code": -9, "drain_s": 5.01})
    proof = fault.proof()
    assert proof.proved and "did not end by itself within 5 s" in proof.text


@pytest.mark.parametrize(
    ("edges", "used", "idle"),
    [
        (("a->b", "a->s"), ("a->s",), []),
        (("a->b", "x->b"), ("a->b",), ["x"]),
        (("p->s", "s->p"), ("s->p",), []),  # the standby calls the primary: the same edge
        (("p->s", "s->q"), ("s->q",), ["p"]),
    ],
)
def test_each_client_must_use_a_link_of_its_own(
    edges: tuple[str, ...], used: tuple[str, ...], idle: list[str]
) -> None:
    links = [Link(name=edge, client=edge[0], server=edge[3], port=1) for edge in edges]
    assert idle_clients(links, {edge: {"proxy": int(edge in used)} for edge in edges}) == idle


@pytest.mark.parametrize(
    ("kind", "params", "for_s"),
    [
        ("maintenance", {"announce": 60.0}, 3.0),
        ("latency", {"links": "*", "latency": 60.0}, 1.0),
        ("reset", {"links": "*", "after": 60.0}, 1.0),
        ("surge", {"factor": 2.0}, 0.5),
        ("partition", {"between": ["a", "b"]}, 1.0),
        ("partition", {"between": ["a", "*"], "mode": "disconnect"}, 2.0),  # and it must be pulled
    ],
)
def test_what_cannot_be_seen_in_its_time_is_known_beforehand(
    kind: str, params: dict[str, Any], for_s: float
) -> None:
    fault = FAULTS[kind]
    assert fault.shortest_s(fault.Params.model_validate(params)) > for_s


def test_a_late_end_is_known_beforehand() -> None:
    restart = FAULTS["restart"]
    params = restart.Params.model_validate({"service": "s", "grace": 40.0})
    assert restart.longest_s(params) > 40
    assert 30 < restart.longest_s(params, 10.0) < 40  # it drains within its `for`
    assert FAULTS["switchover"].longest_s(NoParams()) >= 90


@pytest.mark.parametrize("vary", [0.3, 0.2])
def test_a_latency_that_may_be_nothing_is_refused(vary: float) -> None:
    with pytest.raises(ValueError, match="half of latency"):
        FAULTS["latency"].Params.model_validate({"links": "*", "latency": 0.3, "vary": vary})
