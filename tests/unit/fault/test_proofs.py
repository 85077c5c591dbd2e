"""From what was seen to a proof: each missing observation, alone, must cost the proof."""

from __future__ import annotations

from typing import Any

import pytest

from harness.fault.base import Fault
from harness.fault.lifecycle import Crash, Pause, Restart
from harness.fault.load import Surge
from harness.fault.network import Partition
from harness.fault.operations import Maintenance
from harness.fault.registry import FAULTS
from harness.fault.selection import Cut

LINK_GOOD = {
    "touched": ("a->b",),
    "answered_before": {"a->b": True},
    "through_proxy": {"a->b": {"proxy": 1, "bypass": 0}},
    "during": {"a->b": {"proved": True, "text": "silent"}},
    "neighbours": {"a->c": True, "a->d": False},
}
CRASH_GOOD = {
    "status_before": "running",
    "pid_before": 10,
    "incarnation_before": 1,
    "gone": True,
    "stayed_down": True,
    "status_after": "running",
    "pid_after": 11,
    "incarnation_after": 2,
}
MAINTENANCE_GOOD = {
    "epoch": 2,
    "canary_before": {"status": 400},
    "canary_during": {"status": 503, "retry_after": "5"},
    "canary_after": {"status": 400},
}
PAUSE_GOOD = {"stopped": True, "silent": True, "pid_before": 10, "pid_after": 10}

# fault, what was seen when all is well, and the changes each of which must cost the proof
CASES: list[tuple[type[Fault[Any]], dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
    (
        Partition,
        {"between": ["a", "b"]},
        LINK_GOOD,
        [
            {"during": {"a->b": {"proved": False, "text": "a canary was answered"}}},
            {"through_proxy": {"a->b": {"proxy": 0, "bypass": 0}}},
            {"through_proxy": {"a->b": {"proxy": 1, "bypass": 1}}},
            {"answered_before": {"a->b": False}},
            {"neighbours": {"a->c": False, "a->d": False}},
        ],
    ),
    (
        Crash,
        {"service": "s"},
        CRASH_GOOD,
        [
            {"gone": False},
            {"stayed_down": False},
            {"status_before": "dead"},
            {"pid_after": 10},
            {"incarnation_after": 1},
            {"status_after": "dead"},
        ],
    ),
    (Pause, {"service": "s"}, PAUSE_GOOD, [{"stopped": False}, {"silent": False}, {"pid_after": 12}]),
    (Restart, {"service": "s"}, CRASH_GOOD, [{"gone": False}, {"pid_after": 10}, {"status_after": "dead"}]),
    (
        Surge,
        {"factor": 2.0},
        {"rate_before": 50.0, "rate_during": 101.0},
        [{"rate_during": 60.0}, {"rate_during": None}, {"rate_before": None}, {"rate_during": 300.0}],
    ),
    (
        Maintenance,
        {},
        MAINTENANCE_GOOD,
        [
            {"epoch": None},
            {"canary_during": {"status": 400}},
            {"canary_during": {"status": 503, "retry_after": None}},
            {"canary_before": {"status": 503}},
            {"canary_after": {"status": 503}},
        ],
    ),
    (
        FAULTS["switchover"],
        {},
        {
            "leader": "db-1",
            "candidate": "db-2",
            "holder_after": "db-2",
            "timeline_before": 1,
            "timeline_after": 2,
        },
        [{"holder_after": "db-1"}, {"holder_after": None}, {"timeline_after": 1}, {"timeline_before": None}],
    ),
]


class FakeSpec:
    switchover = type("Switch", (), {"role": "db-primary", "candidate_role": "db-standby"})()


def proved(kind: type[Fault[Any]], params: dict[str, Any], seen: dict[str, Any]) -> bool:
    context: Any = type("Context", (), {"spec": FakeSpec()})()
    fault = kind("f1", kind.Params.model_validate(params), context)
    if isinstance(fault, Partition):
        fault._cut = (Cut("a->b", ("upstream", "downstream")),)
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
