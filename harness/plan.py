"""experiment + target + seed -> timed steps. Pure: no I/O, no clock, no threads.

Times are seconds from the start of load. One seed fixes everything that chance decides: the jitter
of faults and the seed of the arrivals.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic import Field

from harness.experiment.model import Experiment
from harness.experiment.target import Frozen
from harness.experiment.vocabulary import Ability, FaultKind, Vocabulary

SLACK_S = 10.0  # for the instants between the phases, and the 3 s for which a recovery must hold


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
    place: str = ""  # its line in the experiment: faults.0
    needs: tuple[Ability, ...] = ()  # what the runtime must be able to do, beyond what all can


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
    settings: dict[str, dict[str, str]] = Field(default_factory=dict)  # of the target, for this run


def make_plan(experiment: Experiment, vocabulary: Vocabulary, seed: int) -> Plan:
    """Resolve a checked experiment. The same three arguments always give the same plan."""
    turns = _turns(experiment, seed)
    faults = tuple(
        _planned(number, at_s, line, experiment, vocabulary)
        for number, (at_s, line) in enumerate(turns, start=1)
    )
    jobs = tuple(
        PlannedJob(at_s=round(experiment.steady_s + job.at_s, 3), run=job.run) for job in experiment.jobs
    )
    return Plan(
        name=experiment.name,
        seed=seed,
        steady_s=experiment.steady_s,
        faults=faults,
        jobs=tuple(sorted(jobs, key=lambda job: job.at_s)),
        load=LoadPlan(
            seed=_stream(seed, "load").getrandbits(31),
            arrivals=experiment.load.arrivals,
            segments=_segments(experiment.load.rate_per_s, faults, vocabulary),
            mix=dict(experiment.load.mix),
            subscribers=experiment.load.subscribers,
            max_duration_s=_longest_s(experiment, faults, jobs, vocabulary),
        ),
        recover_within_s=experiment.recover_within_s,
        recovered_s=experiment.recovered_s,
        settle_within_s=experiment.settle_within_s,
        settings=experiment.settings,
    )


def _stream(seed: int, name: str) -> random.Random:
    """A source of chance of its own, so that drawing from one moves no other."""
    return random.Random(f"{seed}/{name}")


def _turns(experiment: Experiment, seed: int) -> list[tuple[float, int]]:
    """Every injection in order of time: when, from the end of steady, and its line in the experiment."""
    turns = []
    for index, spec in enumerate(experiment.faults):
        chance = _stream(seed, f"fault/{index}/{spec.fault}")
        for turn in range(spec.repeat):
            later_s = chance.uniform(0.0, spec.jitter_s) if spec.jitter_s else 0.0
            turns.append((round(spec.at_s + turn * (spec.every_s or 0.0) + later_s, 3), index))
    return sorted(turns, key=lambda turn: turn[0])


def _planned(
    number: int, at_s: float, line: int, experiment: Experiment, vocabulary: Vocabulary
) -> PlannedFault:
    spec = experiment.faults[line]
    kind = vocabulary.faults[spec.fault]
    params = kind.Params.model_validate(spec.params)
    start_s = round(experiment.steady_s + at_s, 3)
    return PlannedFault(
        id=f"f{number}-{spec.fault}",
        fault=spec.fault,
        at_s=start_s,
        until_s=round(start_s + spec.for_s, 3) if spec.for_s is not None else None,
        when=spec.when,
        within_s=spec.within_s,
        params=dict(spec.params),
        touches=tuple(kind.touches(params, vocabulary.target)),
        proof=kind.proof_needed(params),
        place=f"faults.{line}",
        needs=tuple(sorted(kind.needs(params))),
    )


def _segments(
    base_per_s: float, faults: tuple[PlannedFault, ...], vocabulary: Vocabulary
) -> tuple[RateSegment, ...]:
    """The rate over time: load faults multiply it while they last, together where they overlap."""
    surges = [
        (fault.at_s, fault.until_s, factor)
        for fault in faults
        if (factor := _factor(vocabulary.faults[fault.fault], fault)) != 1.0 and fault.until_s is not None
    ]
    edges = sorted({0.0} | {edge for start, end, _ in surges for edge in (start, end)})
    segments: list[RateSegment] = []
    for edge in edges:
        rate = base_per_s
        for start, end, factor in surges:
            if start <= edge < end:
                rate *= factor
        rate = round(rate, 6)
        if not segments or segments[-1].rate_per_s != rate:
            segments.append(RateSegment(at_s=edge, rate_per_s=rate))
    return tuple(segments)


def _factor(kind: type[FaultKind], fault: PlannedFault) -> float:
    return kind.rate_factor(kind.Params.model_validate(fault.params))


def _longest_s(
    experiment: Experiment,
    faults: tuple[PlannedFault, ...],
    jobs: tuple[PlannedJob, ...],
    vocabulary: Vocabulary,
) -> float:
    """When load stops at the latest, from its start."""
    ends = [experiment.steady_s, *(job.at_s for job in jobs)]
    for fault in faults:
        kind = vocabulary.faults[fault.fault]
        end_s = fault.until_s if fault.until_s is not None else fault.at_s
        end_s += kind.longest_s(kind.Params.model_validate(fault.params))
        ends.append(end_s + (fault.within_s if fault.when else 0.0))
    tail_s = experiment.recover_within_s + experiment.recovered_s + SLACK_S
    return round(max(ends) + tail_s, 3)
