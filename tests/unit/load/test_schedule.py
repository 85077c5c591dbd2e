"""The schedule: a pure function of the plan and its seed, with the statistics it promises."""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import pairwise

import pytest

from harness.errors import InputError
from harness.load.schedule import Arrival, Repeat, arrivals, instants
from harness.plan import LoadPlan, RateSegment

PINNED = (8096000, "topup", 15, 4416, "0e2e9ddc47e37fc230591537757cd21f")


def plan(*segments: tuple[float, float], **changes: object) -> LoadPlan:
    base = {
        "seed": 7,
        "arrivals": "poisson",
        "segments": tuple(RateSegment(at_s=at, rate_per_s=rate) for at, rate in segments or [(0, 100)]),
        "mix": {"topup": 60, "balance": 40},
        "subscribers": 50,
        "max_duration_s": 20,
    }
    return LoadPlan.model_validate(base | changes)


def test_same_seed_same_operations_other_seed_other_operations() -> None:
    once, again, other = (list(arrivals(plan(seed=seed))) for seed in (7, 7, 8))
    assert once == again
    assert not {a.key for a in once} & {a.key for a in other}
    assert [a.seq for a in once] == list(range(1, len(once) + 1))
    assert once[5].rng().random() == again[5].rng().random() != once[6].rng().random()


def test_first_arrivals_are_the_ones_of_this_version_for_ever() -> None:
    """A replay of an old run must draw the same operations: a change here breaks stored seeds."""
    first = next(iter(arrivals(plan())))
    assert (first.offset_ns, first.kind, first.subscriber, first.amount_minor, first.key) == PINNED


def test_another_mix_moves_no_instant() -> None:
    mixed = [a.offset_ns for a in arrivals(plan(mix={"usage": 1}))]
    assert mixed == [a.offset_ns for a in arrivals(plan())] == list(instants(plan()))


def test_poisson_gaps_and_counts() -> None:
    offsets = list(instants(plan((0, 200), max_duration_s=200)))
    gaps = [(b - a) / 1e9 for a, b in pairwise(offsets)]
    assert statistics.mean(gaps) == pytest.approx(1 / 200, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(1 / 200, rel=0.03)  # exponential: as wide as its mean
    per_second = list(Counter(offset // 10**9 for offset in offsets).values())
    assert statistics.variance(per_second) / statistics.mean(per_second) == pytest.approx(1, abs=0.35)


def test_rates_step_at_the_borders_of_segments() -> None:
    surge = plan((0, 50), (10, 500), (12, 0), (15, 50), arrivals="constant")
    per_second = Counter(offset // 10**9 for offset in instants(surge))
    assert [per_second[second] for second in range(20)] == pytest.approx(
        [50] * 10 + [500] * 2 + [0] * 3 + [50] * 5, abs=1
    )
    poisson = Counter(o // 10**9 for o in instants(plan((0, 50), (10, 500), (12, 0), (15, 50))))
    assert 900 < poisson[10] + poisson[11] < 1100
    assert poisson[12] == poisson[13] == poisson[14] == 0


def test_constant_arrivals_keep_their_gap() -> None:
    offsets = list(instants(plan((0, 80), arrivals="constant")))
    assert {round((b - a) / 1e6, 3) for a, b in pairwise(offsets)} == {12.5}


def test_mix_and_subscribers_are_drawn_as_weighted() -> None:
    drawn = list(arrivals(plan((0, 1000))))
    assert Counter(a.kind for a in drawn)["topup"] / len(drawn) == pytest.approx(0.6, abs=0.02)
    assert {a.subscriber for a in drawn} == set(range(1, 51))
    assert all(100 <= a.amount_minor <= 5000 for a in drawn)
    assert len({a.key for a in drawn}) == len(drawn)


def test_repetitions_come_back_to_something_older_of_that_kind() -> None:
    mixed = plan((0, 200), mix={"topup": 5, "again": 3, "old": 2})
    drawn = list(arrivals(mixed, {"again": Repeat("topup"), "old": Repeat("topup", min_age_s=2)}))
    assert not [a for a in drawn if a.kind == "old" and a.offset_ns < 2e9], "nothing is old enough yet"
    repeated = [a for a in drawn if a.earlier]
    assert {a.kind for a in repeated} == {"again", "old"}
    for arrival in repeated:
        earlier = arrival.earlier
        assert isinstance(earlier, Arrival) and earlier.kind == "topup" and earlier.earlier is None
        assert (arrival.key, arrival.subscriber) == (earlier.key, earlier.subscriber)
        assert arrival.offset_ns - earlier.offset_ns >= (2e9 if arrival.kind == "old" else 0)
    ages = [a.seq - a.earlier.seq for a in repeated if a.kind == "again" and a.earlier]
    assert sum(age <= 15 for age in ages) > len(ages) / 3, "many come while the first is under way"
    assert sum(age > 100 for age in ages) > len(ages) / 5, "many come long after"


def test_repetitions_alone_begin_with_what_they_repeat() -> None:
    drawn = list(arrivals(plan(mix={"again": 1}), {"again": Repeat("topup")}))
    assert [a.kind for a in drawn[:3]] == ["topup", "again", "again"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arrivals": "bursty"}, "bursty"),
        ({"mix": {"topup": 0}}, "nothing to do"),
        ({"segments": [{"at_s": 5, "rate_per_s": 1}, {"at_s": 1, "rate_per_s": 1}]}, "ascend"),
    ],
)
def test_a_plan_that_cannot_be_drawn_from_is_an_input_error(changes: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        list(arrivals(plan(**changes)))
