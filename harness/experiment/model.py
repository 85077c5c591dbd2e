"""An experiment as frozen data: what was asked. Times are seconds, rates are arrivals per second."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from harness.experiment.target import Frozen

Window = Literal["steady", "fault", "recovery", "recovered", "run"]
Comparison = Literal["<=", ">=", "<", ">", "=="]


class LoadSpec(Frozen):
    """Open-loop load. ``mix`` gives relative weights by operation kind."""

    rate_per_s: float
    arrivals: Literal["poisson", "constant"] = "poisson"
    mix: dict[str, float]
    subscribers: int = 200


class FaultSpec(Frozen):
    """One line of ``faults``. ``at_s`` counts from the end of steady.

    ``when`` aims: the fault is injected at the first instant after ``at_s`` at which that moment of
    the target is true, at most ``within_s`` later; a moment that never comes is inconclusive.
    ``params`` are the fault's own keys, checked against its parameter model.
    """

    fault: str
    at_s: float
    for_s: float | None = None
    when: str | None = None
    within_s: float = 15.0
    every_s: float | None = None
    repeat: int = 1
    jitter_s: float = 0.0
    params: dict[str, Any] = Field(default_factory=dict)


class JobSpec(Frozen):
    """Run a batch job of the target at ``at_s`` from the end of steady."""

    at_s: float
    run: str


class Objective(Frozen):
    """``payments.p99 <= 500ms in recovered``. ``limit`` is in the metric's base unit.

    Units: percentages 0-100, durations milliseconds, rates per second.
    """

    text: str
    subject: str  # a function, or a measure of the target
    metric: str
    op: Comparison
    limit: float
    window: Window


class InvariantsHold(Frozen):
    """``invariants hold`` or ``invariants PAY* LED1 hold``."""

    text: str
    patterns: tuple[str, ...] = ("*",)


Expectation = Objective | InvariantsHold


class Experiment(Frozen):
    """One experiment file, checked."""

    name: str
    title: str
    concerns: tuple[int, ...] = ()
    target: str
    load: LoadSpec
    steady_s: float
    faults: tuple[FaultSpec, ...] = ()
    jobs: tuple[JobSpec, ...] = ()
    recover_within_s: float
    recovered_s: float = 10.0  # how long load goes on after recovery
    settle_within_s: float
    expect: tuple[Expectation, ...]
    settings: dict[str, dict[str, str]] = Field(default_factory=dict)  # service -> variable -> value
