"""The live figures: each second frozen once, nothing lost, percentiles right."""

from __future__ import annotations

import json
import math
import random

import pytest

from harness.load.figures import Gauges, LagHistogram, LiveSecond, Meter, percentile

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
GAUGES = Gauges(in_flight=3, waiting=1, users=64)


def freeze(meter: Meter, until_s: float, intended: dict[int, int] | None = None) -> list[LiveSecond]:
    return meter.freeze(T0 + int(until_s * SECOND), lambda second: (intended or {}).get(second, 0), GAUGES)


def test_figures_of_a_second_from_the_intended_time() -> None:
    meter = Meter(T0)
    for number in range(99):
        due = T0 + number * 1_000_000
        meter.finished("ok" if number else "unknown", due, due + (number + 1) * 1_000_000)
    meter.finished("fail", T0, T0 + 200_000_000)
    meter.started([2_000_000] * 99 + [90_000_000])
    (second,) = freeze(meter, 1.5, {0: 102})
    assert (second.intended, second.ok, second.fail, second.unknown, second.finished) == (102, 98, 1, 1, 100)
    assert (second.p50_ms, second.p99_ms) == (50.0, 99.0)
    assert (second.in_flight, second.users, second.lag_p99_ms) == (3, 64, 2.0)
    assert LiveSecond.from_json(json.loads(json.dumps(second.to_json()))) == second


def test_a_second_is_frozen_once_and_late_completions_count_in_the_next() -> None:
    meter = Meter(T0)
    meter.finished("ok", T0, T0 + SECOND // 2)
    assert freeze(meter, 0.9) == []
    (first,) = freeze(meter, 1.0)
    meter.finished("ok", T0, T0 + SECOND * 9 // 10)  # comes too late for its own second
    meter.finished("ok", T0, T0 + SECOND * 3)
    later = freeze(meter, 4.0)
    assert [second.ok for second in (first, *later)] == [1, 1, 0, 1]
    assert [second.second for second in (first, *later)] == [0, 1, 2, 3]
    assert later[1].p99_ms is None and later[1].lag_p99_ms is None, "unknown is not 0"


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000])
def test_percentile_is_the_nearest_rank(count: int) -> None:
    ordered = [float(n) for n in range(1, count + 1)]
    for share in (0.5, 0.99, 1.0):
        assert percentile(ordered, share) == math.ceil(share * count)


def test_lag_histogram_agrees_with_the_sorted_list() -> None:
    rng = random.Random(1)
    lags = [int(rng.lognormvariate(14, 3)) for _ in range(20_000)]
    histogram = LagHistogram()
    for lag in lags:
        histogram.add(lag)
    exact_ms = sorted(lags)[int(0.99 * len(lags)) - 1] / 1e6
    assert exact_ms <= histogram.p99_ms() <= exact_ms + (0.1 if exact_ms < 1000 else 10)
    assert LagHistogram().p99_ms() == 0.0
