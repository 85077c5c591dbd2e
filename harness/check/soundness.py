"""Whether a run can be judged at all: was the load kept up, the system steady, each fault proved?

Each finding is a ``Doubt``. Most make the run inconclusive; work that is still pending when its time
is over is the system's own failure. What our own parts broke (a witness that died, a link engine, a
fault that could not be healed) spoils every failure: it may be our doing, so it convicts nobody.
``see`` asks the operations; all the rest is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from harness.check.punctuality import ABSENT_SHARE, LAG_P99_MS, Punctuality
from harness.check.windows import Span
from harness.evidence.model import FaultRecord, JobRecord, Timeline
from harness.experiment.advice import FEWEST_STEADY
from harness.experiment.model import Experiment, Objective
from harness.experiment.target import TargetSpec

STEADY_SUCCESS_PERCENT = 99.0
SENT_SHARE = 0.99
MOST_SAID = 200
HARNESS_PARTS = frozenset({"toxiproxy"})  # as deaths name them
UNREADABLE = "coalesce(contains(error, 'locustfile: '), false)"


Answer = Literal["fail", "inconclusive"]


@dataclass(frozen=True)
class Doubt:
    """``spoils``: which failures it makes doubtful.

    ``steady``: of steady's success. ``figures``: of all objectives. ``state``: of the invariants.
    """

    answer: Answer
    text: str
    spoils: Literal["none", "steady", "figures", "state", "all"] = "none"


@dataclass(frozen=True)
class Seen:
    """What the operations tell. ``steady``: operations due and ok in steady, by function.

    ``unmet``: by fault id, why the load was not there while it lasted. ``unreadable``: kind, how many
    answers the locustfile could not read, and what it said of one of them. ``crowded_out``: operations
    that never began, because the target kept every user busy.
    """

    steady: Mapping[str, tuple[int, int]]
    unmet: Mapping[str, str]
    unreadable: tuple[tuple[str, int, str], ...] = ()
    crowded_out: int = 0


def spoiling_objective(doubts: Sequence[Doubt], objective: Objective) -> Doubt | None:
    """The doubt, if any, that makes a failure of this objective doubtful."""
    kinds = ["all", "figures"]
    if (objective.window, objective.metric) == ("steady", "success"):
        kinds.append("steady")
    return _spoiling(doubts, *kinds)


def spoiling_invariants(doubts: Sequence[Doubt]) -> Doubt | None:
    """The doubt, if any, that makes a violation of an invariant doubtful."""
    return _spoiling(doubts, "all", "state")


def spoiling_time(doubts: Sequence[Doubt]) -> Doubt | None:
    """The doubt, if any, for which nothing can be said to have come too late.

    Without a sound steady state there is nothing that a late answer, or a recovery, could be held against.
    """
    return _spoiling(doubts, "figures", "steady")


def _spoiling(doubts: Sequence[Doubt], *kinds: str) -> Doubt | None:
    return next((doubt for doubt in doubts if doubt.spoils in kinds), None)


def see(
    connection: duckdb.DuckDBPyConnection,
    timeline: Timeline,
    faults: Sequence[FaultRecord],
    punctuality: Punctuality,
) -> Seen:
    """Ask the operations. Raises duckdb.Error."""
    ended_ns = timeline.load_ended_ns or timeline.steady_ended_ns
    unmet = {}
    for fault in faults:
        if fault.injected_ns is not None:
            span = Span(fault.injected_ns, min(fault.healed_ns or ended_ns, ended_ns))
            if complaint := punctuality.complaint(span, ABSENT_SHARE):
                unmet[fault.id] = complaint
    unreadable = connection.execute(
        f"select kind, count(*), min(error) from operations where {UNREADABLE} group by kind order by kind"
    ).fetchall()
    row = connection.execute(
        "select count(*) from operations where invoked_ns is null and queued_ns > 0"
    ).fetchone()
    return Seen(_steady_success(connection, timeline), unmet, tuple(unreadable), row[0] if row else 0)


def doubts(
    experiment: Experiment,
    spec: TargetSpec,
    timeline: Timeline,
    faults: Sequence[FaultRecord],
    jobs: Sequence[JobRecord],
    seen: Seen,
) -> tuple[Doubt, ...]:
    """All findings."""
    ours = (
        *_aborted(timeline),
        *_load(timeline, seen.crowded_out),
        *_faults(experiment, faults, seen.unmet),
        *_deaths(timeline, spec),
    )
    return (
        *ours,
        *_unreadable(seen),
        *_steady(experiment, seen.steady),
        *_moved(timeline),
        *_not_collected(timeline),
        *_pending(experiment, timeline, doubtful=_spoiling(ours, "all", "figures") is not None),
        *_jobs(experiment, jobs),
    )


def _steady_success(connection: duckdb.DuckDBPyConnection, timeline: Timeline) -> dict[str, tuple[int, int]]:
    rows = connection.execute(
        """
        select function, count(*), count(*) filter (outcome = 'ok')
        from operations join functions using (kind) where counted_ns < ? group by function
        """,
        [timeline.steady_ended_ns],
    ).fetchall()
    return {function: (due, ok) for function, due, ok in rows}


def _aborted(timeline: Timeline) -> Iterator[Doubt]:
    if timeline.aborted is not None:
        yield Doubt("inconclusive", f"the run was aborted: {timeline.aborted}", spoils="all")


def _load(timeline: Timeline, crowded_out: int) -> Iterator[Doubt]:
    """The generator's own failures. That no user was free for an operation is the target's."""
    load = timeline.load
    if load is None:
        yield Doubt("inconclusive", "the load generator said nothing of what it sent", spoils="all")
        return
    if load.recorded != load.sent:
        text = f"the history is incomplete: {load.sent} operations were sent, {load.recorded} recorded"
        yield Doubt("inconclusive", text, spoils="all")
    if load.exit_code != 0:  # killed, it lost what it had not written yet
        text = f"the load generator ended with exit code {load.exit_code}"
        yield Doubt("inconclusive", text, spoils="all")
    if load.sent + crowded_out < SENT_SHARE * load.scheduled or load.scheduled == 0:
        text = f"load fell behind: {load.sent} of {load.scheduled} scheduled operations were sent"
        yield Doubt("inconclusive", text, spoils="figures")
    if load.lag_p99_ms > LAG_P99_MS:
        text = (
            f"load came late: p99 of its lag was {load.lag_p99_ms:.0f} ms, at most {LAG_P99_MS:.0f} ms may be"
        )
        yield Doubt("inconclusive", text, spoils="figures")


def _unreadable(seen: Seen) -> Iterator[Doubt]:
    """The target answered nonsense, or the locustfile reads it wrong: nobody here can tell which.

    A failed objective stands unless it would be met with these operations counted as ok.
    """
    for kind, count, error in seen.unreadable:
        said = error[error.index("locustfile: ") :][:MOST_SAID]
        text = f"the locustfile could not read the answer of {count} {kind} operations ({said})"
        yield Doubt("inconclusive", text)


def _steady(experiment: Experiment, steady: Mapping[str, tuple[int, int]]) -> Iterator[Doubt]:
    """Each function must be sound before anything is broken; the experiment may name its own limit."""
    limits = {
        e.subject: e.limit
        for e in experiment.expect
        if isinstance(e, Objective) and (e.metric, e.window) == ("success", "steady")
    }
    if sum(due for due, _ in steady.values()) < FEWEST_STEADY:
        yield Doubt("inconclusive", "there was hardly any traffic before the first fault", spoils="steady")
    for function, (due, ok) in steady.items():
        limit = limits.get(function, STEADY_SUCCESS_PERCENT)
        if due >= FEWEST_STEADY and 100 * ok < limit * due:
            text = f"no steady state: {ok} of {due} operations of {function} ended ok before the first fault"
            yield Doubt("inconclusive", f"{text}, {limit:g} % must", spoils="steady")


def _faults(
    experiment: Experiment, faults: Sequence[FaultRecord], unmet: Mapping[str, str]
) -> Iterator[Doubt]:
    asked = sum(max(1, fault.repeat) for fault in experiment.faults)
    if len(faults) < asked:
        yield Doubt("inconclusive", f"{asked} faults were asked for, {len(faults)} are on record")
    for fault in faults:
        name = f"{fault.id} ({fault.fault} on {', '.join(fault.touches)})"
        if fault.heal_error is not None:
            yield Doubt("inconclusive", f"{name} could not be healed: {fault.heal_error}", spoils="all")
        if fault.injected_ns is None:
            yield Doubt("inconclusive", f"{name} was never injected: {fault.error or fault.proof.text}")
        elif fault.error is not None:
            yield Doubt("inconclusive", f"{name} broke: {fault.error}")
        elif not fault.proof.proved and fault.heal_error is None:
            yield Doubt("inconclusive", f"{name} is not proved: {fault.proof.text}")
        if fault.id in unmet:
            yield Doubt("inconclusive", f"{name} was not met by the load: {unmet[fault.id]}")


def _deaths(timeline: Timeline, spec: TargetSpec) -> Iterator[Doubt]:
    """Uninvited deaths. Of our own parts they spoil all; the target's own may be its failure."""
    ours = HARNESS_PARTS | spec.witnesses
    for death in timeline.deaths:
        text = f"{death.service} ended uninvited, exit code {death.exit_code}"
        if death.service in ours:
            yield Doubt("inconclusive", f"{text}; it is part of the harness", spoils="all")
        else:
            yield Doubt("inconclusive", text)


def _moved(timeline: Timeline) -> Iterator[Doubt]:
    """What one part of the final state has and another, read later, has not, convicts nobody.

    What clients measured has nothing to do with it, and stands.
    """
    if timeline.moved_after_snapshot:
        moved = ", ".join(timeline.moved_after_snapshot)
        text = f"the system still worked while its final state was read: {moved}"
        yield Doubt("inconclusive", text, spoils="state")


def _not_collected(timeline: Timeline) -> Iterator[Doubt]:
    """Without a part of the final state what needs it cannot be said; what clients measured stands."""
    for why in timeline.not_collected:
        yield Doubt("inconclusive", f"part of the final state is missing: {why}", spoils="state")


def _pending(experiment: Experiment, timeline: Timeline, *, doubtful: bool) -> Iterator[Doubt]:
    """A backlog that never drains is the system's failure, also where no invariant is asked about.

    ``doubtful``: it may be the doing of a part of the harness, or of a machine too busy for the load.
    """
    if timeline.settled_ns is not None or timeline.aborted is not None:
        return
    unknown = [name for name, count in timeline.settle_pending.items() if count < 0]
    pending = [f"{name} {count}" for name, count in timeline.settle_pending.items() if count > 0]
    after = f"{experiment.settle_within_s:g} s after load"
    if pending:
        answer: Answer = "inconclusive" if doubtful else "fail"
        yield Doubt(answer, f"work was still pending {after}: {', '.join(pending)}")
    if unknown or not pending:
        names = ", ".join(unknown) or "nothing is on record"
        yield Doubt("inconclusive", f"it cannot be said what was pending {after}: {names}")


def _jobs(experiment: Experiment, jobs: Sequence[JobRecord]) -> Iterator[Doubt]:
    """A job that was asked for and is not done may be the system's fault: ROAM3 and AV1 say so."""
    if len(jobs) < len(experiment.jobs):
        yield Doubt("inconclusive", f"{len(experiment.jobs)} jobs were asked for, {len(jobs)} are on record")
    for job in jobs:
        if not job.done:
            yield Doubt(
                "inconclusive", f"job {job.job} was not done after {job.attempts} calls: {job.answer}"
            )
