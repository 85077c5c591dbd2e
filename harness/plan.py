"""experiment + target + seed -> timed steps. Pure: no I/O, no clock, no threads.

Times are seconds from the start of load. One seed fixes everything that chance decides: the jitter
of faults and the seed of the arrivals.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from harness.experiment.target import Frozen


class PlannedFault(Frozen):
    """One injection. ``id`` is unique in the run (``f1-crash``); ``until_s`` None: ends by itself."""

    id: str
    fault: str
    at_s: float
    until_s: float | None
    when: str | None = None
    within_s: float = 15.0
    params: dict[str, Any] = Field(default_factory=dict)
    touches: tuple[str, ...] = ()  # links and services, for people
    proof: str = ""  # the proof it will need, for people


class PlannedJob(Frozen):
    at_s: float
    run: str


class RateSegment(Frozen):
    """From ``at_s`` on, arrivals come at ``rate_per_s``."""

    at_s: float
    rate_per_s: float


class LoadPlan(Frozen):
    """What the load generator needs. It stops when told to, at ``max_duration_s`` at the latest."""

    seed: int
    arrivals: str
    segments: tuple[RateSegment, ...]
    mix: dict[str, float]
    subscribers: int
    max_duration_s: float


class Plan(Frozen):
    """The resolved timeline of one run."""

    name: str
    seed: int
    steady_s: float
    faults: tuple[PlannedFault, ...]
    jobs: tuple[PlannedJob, ...]
    load: LoadPlan
    recover_within_s: float
    recovered_s: float
    settle_within_s: float
