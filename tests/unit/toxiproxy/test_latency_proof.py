"""Noise hides a latency from one round of canaries, not from several; no number of rounds makes one up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.toxiproxy import proofs
from harness.toxiproxy.canary import Canary

Probing = Callable[[list[float | None], list[float | None]], None]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Probing:
    """Round-trip times (ms), in order, of the canaries through the link and past it; None: no answer."""

    def give(through: list[float | None], past: list[float | None]) -> None:
        ways: dict[str, Iterator[float | None]] = {"link": iter(through), "past": iter(past)}

        def probe(address: str, *_: object) -> Canary:
            return Canary(connected=True, rtt_ms=next(ways[address]))

        monkeypatch.setattr(proofs, "probe", probe)

    return give


def seen(**given: float) -> proofs.Slower:
    return proofs.latency("link", "http", at_least_ms=40, direct="past", canaries=2, **given)  # type: ignore[arg-type]


def test_a_round_in_which_everything_was_late_is_flown_again(answers: Probing) -> None:
    answers([70, 80, 65, 60], [50, 55, 8, 9])
    slower = seen()
    assert slower.proved and (slower.through_ms, slower.compared_ms) == (60, 8)


def test_the_fastest_of_all_rounds_count_so_that_trying_again_proves_nothing(answers: Probing) -> None:
    answers([15, 30, 90, 90, 90, 90, 90, 90], [5, 5, 5, 5, 5, 5, 5, 5])
    slower = seen()
    assert not slower.proved and (slower.through_ms, slower.compared_ms) == (15, 5)


def test_slower_than_before_counts_whatever_is_fast_beside(answers: Probing) -> None:
    answers([60] * 8, [5] * 8)
    assert not seen(before_ms=30.0).proved


def test_an_unanswered_canary_ends_it(answers: Probing) -> None:
    answers([60, None], [5, 5])
    slower = seen()
    assert not slower.proved and slower.unanswered == 1
