"""What is due when: the arrivals of a run as a pure function of the plan and its seed.

Open loop: the arrivals do not wait for answers. Instants, kinds and contents are drawn from three
streams of their own, so that another mix moves no instant. No clock, no I/O, no Locust.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from harness.errors import InputError
from harness.plan import LoadPlan, RateSegment

AMOUNT_MINOR = (100, 5000)
RECENT = 5  # a repetition takes one of the newest arrivals every other time: it may be under way still
REMEMBERED = 500


@dataclass(frozen=True)
class Repeat:
    """An operation that comes back to an earlier one of kind ``of``, at least ``min_age_s`` older."""

    of: str
    min_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One operation that is due ``offset_ns`` after the start of load. ``seq`` counts from 1.

    A repetition has the subscriber and the key of the ``earlier`` arrival it comes back to.
    """

    seq: int
    offset_ns: int
    kind: str
    subscriber: int
    key: str
    amount_minor: int
    seed: int
    earlier: Arrival | None = None

    @property
    def id(self) -> str:
        return f"op-{self.seq}"

    def rng(self, purpose: str = "") -> random.Random:
        """The chance of this operation alone: the same for the same seed, ``seq`` and ``purpose``."""
        return random.Random(f"{self.seed}/{self.seq}/{purpose}")


def arrivals(plan: LoadPlan, repeats: Mapping[str, Repeat] | None = None) -> Iterator[Arrival]:
    """All arrivals up to ``max_duration_s``, in order of time.

    ``repeats`` by kind. When there is nothing old enough to come back to, the arrival is one of the
    kind that would have been repeated. Raises InputError for a plan that cannot be drawn from.
    """
    kinds, weights = mix_of(plan)
    rng_kind = random.Random(f"{plan.seed}/kind")
    rng_content = random.Random(f"{plan.seed}/content")
    past: dict[str, list[Arrival]] = {repeat.of: [] for repeat in (repeats or {}).values()}
    for seq, offset_ns in enumerate(instants(plan), start=1):
        kind = kinds[bisect_right(weights, rng_kind.random() * weights[-1])]
        subscriber = rng_content.randint(1, plan.subscribers)
        key = f"{rng_content.getrandbits(128):032x}"
        amount_minor = rng_content.randint(*AMOUNT_MINOR)
        earlier = None
        if repeats and (repeat := repeats.get(kind)):
            earlier = pick_earlier(past[repeat.of], offset_ns - int(repeat.min_age_s * 1e9), rng_content)
            if earlier is None:
                kind = repeat.of
            else:
                subscriber, key = earlier.subscriber, earlier.key
        arrival = Arrival(seq, offset_ns, kind, subscriber, key, amount_minor, plan.seed, earlier)
        if kind in past and earlier is None:
            remember(past[kind], arrival)
        yield arrival


def instants(plan: LoadPlan) -> Iterator[int]:
    """Nanoseconds from the start of load, ascending.

    The rate is integrated over the segments, so a step in it takes effect at its border exactly,
    within a gap too: each arrival is due when a unit of the integral has passed (constant), or a
    quantity drawn from the unit exponential distribution (Poisson).
    """
    rng = random.Random(f"{plan.seed}/instants")
    gap = {"poisson": lambda: -math.log(1.0 - rng.random()), "constant": lambda: 1.0}.get(plan.arrivals)
    if gap is None:
        raise InputError(f"arrivals {plan.arrivals!r} are unknown", hint="poisson or constant")
    now_s, missing = 0.0, gap()
    for start_s, end_s, rate in spans(plan.segments, plan.max_duration_s):
        now_s = start_s
        while rate > 0 and now_s + missing / rate < end_s:
            now_s += missing / rate
            missing = gap()
            yield int(now_s * 1e9)
        missing = max(0.0, missing - rate * (end_s - now_s))


def spans(segments: tuple[RateSegment, ...], until_s: float) -> Iterator[tuple[float, float, float]]:
    """``(start_s, end_s, rate_per_s)``; before the first segment there is no load."""
    starts = [segment.at_s for segment in segments]
    if starts != sorted(starts) or any(segment.rate_per_s < 0 for segment in segments):
        raise InputError("rate segments must ascend in time and have rates of 0 or more")
    ends = [*starts[1:], until_s]
    for segment, end_s in zip(segments, ends, strict=True):
        if segment.at_s < min(end_s, until_s):
            yield segment.at_s, min(end_s, until_s), segment.rate_per_s


def mix_of(plan: LoadPlan) -> tuple[list[str], list[float]]:
    """The kinds by name (the order in the file means nothing) and their weights, added up."""
    kinds = sorted(kind for kind, weight in plan.mix.items() if weight > 0)
    if not kinds or min(plan.mix.values()) < 0:
        raise InputError(f"the mix {plan.mix} gives nothing to do", hint="weights above 0 by kind")
    return kinds, list(accumulate(plan.mix[kind] for kind in kinds))


def remember(past: list[Arrival], arrival: Arrival) -> None:
    """Keep the last ``REMEMBERED``, or twice as many between two clearings."""
    past.append(arrival)
    if len(past) > 2 * REMEMBERED:
        del past[:REMEMBERED]


def pick_earlier(past: list[Arrival], before_ns: int, rng: random.Random) -> Arrival | None:
    """One of the arrivals due by ``before_ns``, every other time one of the newest of them."""
    eligible = bisect_right(past, before_ns, key=lambda arrival: arrival.offset_ns)
    span = min(RECENT if rng.random() < 0.5 else REMEMBERED, eligible)
    return past[eligible - 1 - rng.randrange(span)] if span else None
