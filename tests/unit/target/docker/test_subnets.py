"""Subnets: free ones only, not the same start for every run, an end that says what to do."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import islice

import pytest

from harness.errors import EnvironmentBroken, InputError
from harness.target.docker.subnets import POOL_VARIABLE, candidates


def test_subnets_in_use_are_passed_over() -> None:
    first, second = islice(candidates("run", []), 2)
    assert first.prefixlen == 28 and not first.overlaps(second)
    around = first.supernet(new_prefix=24)
    assert all(not around.overlaps(free) for free in islice(candidates("run", [around]), 50))


def test_runs_begin_at_different_places() -> None:
    assert len({next(candidates(f"run-{i}", [])) for i in range(20)}) > 15


def test_a_pool_that_is_used_up_says_so() -> None:
    with pytest.raises(EnvironmentBroken, match="no free subnet") as caught:
        next(candidates("run", [IPv4Network("198.18.0.0/15")]))
    assert "ledgerquake cleanup" in str(caught.value)


@pytest.mark.parametrize("written", ["nonsense", "10.0.0.0/26", "10.0.0.1/8", "::/64"])
def test_a_range_that_is_none_is_bad_input(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POOL_VARIABLE, written)
    with pytest.raises(InputError, match=POOL_VARIABLE):
        next(candidates("run", []))


def test_another_range_is_taken_when_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POOL_VARIABLE, "10.77.0.0/16")
    assert next(candidates("run", [])).subnet_of(IPv4Network("10.77.0.0/16"))
