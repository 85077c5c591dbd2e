"""Which ends a limit brought: those, and no others, were asked for."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import Any

import pytest

from harness.experiment.target import Service, TargetSpec
from harness.target.docker.limits import LimitsSet
from harness.target.lives import Life
from harness.target.runtime import Limits

MIB = 1 << 20
OWN = Service(name="a", memory_bytes=64 * MIB, cpus=2)
SPEC = TargetSpec(name="t", folder=".", services={"a": OWN}, links={}, functions={}, entry="x")
NARROW = Limits(memory_bytes=32 * MIB)


@dataclass
class Child:
    """A container that has ended."""

    ended_ns: int
    out_of_memory: bool = True
    code: int | None = -signal.SIGKILL

    def poll(self) -> int | None:
        return self.code


def life(ended_ns: int, **how: Any) -> Life[Any]:
    return Life(1, Child(ended_ns, **how), started_ns=0)


@pytest.fixture
def limits() -> LimitsSet:
    return LimitsSet(SPEC)


def test_until_others_are_set_they_are_the_targets_own(limits: LimitsSet) -> None:
    assert limits.of("a") == Limits(2, 64 * MIB)
    limits.note("a", NARROW)
    assert limits.of("a") == NARROW


def test_an_end_for_want_of_memory_under_a_narrower_limit_was_asked_for(limits: LimitsSet) -> None:
    limits.note("a", NARROW)
    one = life(time.time_ns())
    assert limits.ended("a", one)
    limits.invite("a", one)
    assert one.invited_ns == one.child.ended_ns and not one.uninvited_end


@pytest.mark.parametrize("how", [{"out_of_memory": False}, {"code": 1}, {"code": None}], ids=str)
def test_another_end_meanwhile_was_not(limits: LimitsSet, how: dict[str, Any]) -> None:
    """A plain SIGKILL, an end by itself, none at all."""
    limits.note("a", NARROW)
    one = life(time.time_ns(), **how)
    limits.invite("a", one)
    assert not limits.ended("a", one) and one.invited_ns is None


@pytest.mark.parametrize("own", [Limits(2, 64 * MIB), Limits(2, None), Limits(0.1, 65 * MIB)], ids=str)
def test_a_limit_no_narrower_than_the_targets_own_invites_nothing(limits: LimitsSet, own: Limits) -> None:
    limits.note("a", own)
    assert not limits.ended("a", life(time.time_ns()))


def test_only_the_instant_of_the_end_counts(limits: LimitsSet) -> None:
    """It may be told of after the lifting; what ended before the limit, or after it, is another matter."""
    before = time.time_ns() - 10**9
    limits.note("a", NARROW)
    meanwhile = time.time_ns()
    limits.note("a", Limits(2, 64 * MIB))
    after = time.time_ns() + 1
    ended = [limits.ended("a", life(ended_ns)) for ended_ns in (before, meanwhile, after)]
    assert ended == [False, True, False]


def test_a_limit_changed_for_another_narrow_one_leaves_no_gap(limits: LimitsSet) -> None:
    limits.note("a", NARROW)
    first = time.time_ns()
    limits.note("a", Limits(memory_bytes=16 * MIB))
    assert limits.ended("a", life(first)) and limits.ended("a", life(time.time_ns()))


def test_an_end_that_was_asked_for_already_keeps_its_instant(limits: LimitsSet) -> None:
    limits.note("a", NARROW)
    one = life(time.time_ns())
    one.invited_ns = 5
    limits.invite("a", one)
    assert one.invited_ns == 5
