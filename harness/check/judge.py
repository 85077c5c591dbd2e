"""The verdict on a stored run: pure over its folder, so it can be given again at any time.

What makes a run inconclusive stands in ``soundness``. Some of these also take the edge off a failure,
because they make it doubtful itself: an incomplete history, an aborted run, or a part of the harness
that broke, convicts nobody; a load that was not kept up convicts nobody of slowness.

An invariant that is violated fails the run whether or not an expectation names it; one that cannot be
said counts only where one does.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import duckdb

from harness.check import soundness
from harness.check.impact import impact
from harness.check.invariants import Found, InvariantFile, parse_invariant, run_invariant
from harness.check.objectives import Figures
from harness.check.punctuality import Punctuality
from harness.check.recovery import Recovery, recover
from harness.check.stories import tell_stories
from harness.check.verdict import (
    Answer,
    Example,
    ExpectationVerdict,
    FaultVerdict,
    InvariantVerdict,
    Verdict,
    WindowVerdict,
    worst,
)
from harness.check.windows import Span, windows_of
from harness.errors import InputError, TargetError
from harness.evidence.folder import RunFolder
from harness.evidence.model import Environment, FaultRecord, JobRecord, Timeline
from harness.evidence.views import add_table, open_evidence
from harness.experiment.model import Experiment, InvariantsHold, Objective
from harness.experiment.target import TargetSpec
from harness.plan import Plan

T = TypeVar("T")
NOWHERE = "none"  # runtime and engine of a run that never came up


@dataclass(frozen=True)
class Case:
    """All that was recorded about a run, but its tables."""

    folder: RunFolder
    experiment: Experiment
    spec: TargetSpec
    environment: Environment
    timeline: Timeline
    faults: tuple[FaultRecord, ...]
    jobs: tuple[JobRecord, ...]
    plan: Plan | None

    @classmethod
    def read(cls, folder: RunFolder) -> Case:
        """InputError when a file is missing, but for those that an aborted run may never have had."""
        timeline = folder.read_timeline()
        aborted = timeline.aborted is not None
        return cls(
            folder,
            folder.read_experiment(),
            folder.read_target(),
            _or(aborted, folder.read_environment, lambda: _nowhere(folder)),
            timeline,
            _or(aborted, folder.read_faults, tuple),
            _or(aborted, folder.read_jobs, tuple),
            _or(True, folder.read_plan, lambda: None),
        )

    @property
    def ended_ns(self) -> int:
        """The end of load, as far as it got."""
        return self.timeline.load_ended_ns or self.timeline.steady_ended_ns

    def present(self, connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
        """The kinds, faults and jobs of this experiment, for which invariants may apply.

        Kinds that were sent count, too: a repetition that finds nothing to repeat becomes what it repeats.
        """
        kinds = {kind for kind, weight in self.experiment.load.mix.items() if weight > 0}
        try:
            sent = connection.execute("select distinct kind from operations").fetchall()
        except duckdb.Error:  # unreadable operations are a doubt of their own
            sent = []
        faults = {fault.fault for fault in self.experiment.faults}
        jobs = {job.run for job in self.experiment.jobs}
        return frozenset(kinds | {kind for (kind,) in sent} | faults | jobs)


def _or(excused: bool, read: Callable[[], T], otherwise: Callable[[], T]) -> T:
    try:
        return read()
    except InputError:
        if not excused:
            raise
        return otherwise()


def _nowhere(folder: RunFolder) -> Environment:
    """Of a run that was aborted before it came up."""
    return Environment(
        run_id=folder.path.name, seed=folder.read_plan().seed, runtime=NOWHERE, toxiproxy=NOWHERE
    )


def judge(folder: RunFolder) -> Verdict:
    """The verdict on the run in ``folder``; one that crashes on its way is inconclusive, never a pass.

    InputError when the folder lacks its basic files.
    """
    case = Case.read(folder)
    try:
        connection = open_evidence(folder)
        try:
            return _judge(case, connection)
        finally:
            connection.close()
    except Exception as error:  # the evidence is kept; what is missing is only its reading
        return _crashed(case, error)


def _judge(case: Case, connection: duckdb.DuckDBPyConnection) -> Verdict:
    load = case.plan.load if case.plan else None
    punctuality = Punctuality(connection, load, case.timeline.load_started_ns)
    recovery, windows, doubts = _phases(case, connection, punctuality)
    invariants, by_figure = _invariants(case, connection, doubts)
    figures = Figures(connection, case.spec, windows, recovery, case.ended_ns, punctuality)
    expectations = tuple(
        _tempered(
            figures.judge(expectation)
            if isinstance(expectation, Objective)
            else _invariants_hold(expectation, invariants),
            expectation,
            doubts,
        )
        for expectation in case.experiment.expect
    )
    violated = [_convicting(doubts) for invariant in invariants if invariant.verdict == "fail"]
    verdict = worst([*(e.verdict for e in expectations), *violated, *(doubt.answer for doubt in doubts)])
    started = case.timeline.load_started_ns
    return Verdict(
        name=case.experiment.name,
        verdict=verdict,
        seed=case.environment.seed,
        runtime=case.environment.runtime,
        toxiproxy=case.environment.toxiproxy,
        mutant=case.environment.mutant,
        windows={name: _seconds(span, started) for name, span in windows.items()},
        recovery_s=recovery.seconds(recovery.overall_ns),
        expectations=expectations,
        invariants=invariants,
        faults=tuple(_fault_verdict(record, started) for record in case.faults),
        impact=_impact(case, connection, recovery, by_figure),
        reasons=_reasons(expectations, invariants, doubts),
        replay=_replay(case),
    )


def _phases(
    case: Case, connection: duckdb.DuckDBPyConnection, punctuality: Punctuality
) -> tuple[Recovery, dict[str, Span], tuple[soundness.Doubt, ...]]:
    """Recovery, the windows (also as tables, for the invariants), and what makes the run doubtful."""
    broken: tuple[soundness.Doubt, ...] = ()
    try:
        recovery = recover(connection, case.timeline)
        seen = soundness.see(connection, case.timeline, case.faults, punctuality)
    except duckdb.Error as error:
        recovery = Recovery(case.timeline.last_healing_ns, None, {}, judged=False)
        seen = soundness.Seen({}, {})
        broken = (soundness.Doubt("inconclusive", f"the operations cannot be read: {error}", spoils="all"),)
    windows = dict(windows_of(case.timeline, recovery))
    columns = {"name": "VARCHAR", "start_ns": "BIGINT", "end_ns": "BIGINT"}
    add_table(
        connection, "windows", columns, [(name, span.start_ns, span.end_ns) for name, span in windows.items()]
    )
    columns = {"function": "VARCHAR", "recovered_ns": "BIGINT", "judged": "BOOLEAN"}
    rows = [("", recovery.overall_ns, recovery.judged)]
    rows += [(function, at_ns, True) for function, at_ns in recovery.by_function.items()]
    add_table(connection, "recovery", columns, rows)
    doubts = soundness.doubts(case.experiment, case.spec, case.timeline, case.faults, case.jobs, seen)
    return recovery, windows, doubts + broken


# --- invariants ---------------------------------------------------------------------------------
def _invariants(
    case: Case, connection: duckdb.DuckDBPyConnection, doubts: tuple[soundness.Doubt, ...]
) -> tuple[tuple[InvariantVerdict, ...], Counter[str]]:
    """All invariants of the target, and their violations by business figure."""
    verdicts, by_figure = [], Counter[str]()
    present = case.present(connection)
    for known in case.spec.invariants.values():
        try:
            text = (Path(case.spec.folder) / known.file).read_text(encoding="utf-8")
            file = parse_invariant(text, known.file)
        except (OSError, TargetError) as error:
            verdicts.append(
                InvariantVerdict(
                    id=known.id,
                    title=known.title,
                    verdict="inconclusive",
                    asked=_asked(case.experiment, known.id),
                    reason=str(error),
                )
            )
            continue
        found = _if_timing_tells(run_invariant(connection, file, present), file, doubts)
        if file.head.impact and found.impact is not None:
            by_figure[file.head.impact[0]] += found.impact
        verdicts.append(_invariant_verdict(case, connection, file, found))
    return tuple(verdicts), by_figure


def _if_timing_tells(found: Found, file: InvariantFile, doubts: tuple[soundness.Doubt, ...]) -> Found:
    """Where time itself is in doubt, whatever came too late convicts nobody: it may be the machine's.

    Without a sound steady state there is nothing that a late answer, or a recovery, could be held against.
    """
    late = next((doubt for doubt in doubts if doubt.spoils in ("figures", "steady")), None)
    if found.answer != "fail" or late is None or not file.head.liveness:
        return found
    return replace(found, answer="inconclusive", reason=late.text)


def _invariant_verdict(
    case: Case, connection: duckdb.DuckDBPyConnection, file: InvariantFile, found: Found
) -> InvariantVerdict:
    subjects = [str(row.get("subject", "")) for row in found.rows]
    reason = found.reason
    try:
        stories = tell_stories(connection, [s for s in subjects if s], case.faults)
    except duckdb.Error as error:  # the conviction stands without its story
        stories, reason = {}, f"the stories of the examples cannot be told: {error}"
    return InvariantVerdict(
        id=file.id,
        title=file.head.title,
        verdict=found.answer,
        asked=_asked(case.experiment, file.id),
        checked=found.checked,
        violations=found.violations,
        examples=tuple(
            Example(subject=subject, row=row, timeline=stories.get(subject, ()))
            for subject, row in zip(subjects, found.rows, strict=True)
        ),
        reason=reason,
    )


def _invariants_hold(
    expectation: InvariantsHold, invariants: Sequence[InvariantVerdict]
) -> ExpectationVerdict:
    """The worst of those meant; none that applies has nothing to say."""
    meant = [
        invariant
        for invariant in invariants
        if _means(expectation, invariant.id) and invariant.verdict != "not_applicable"
    ]
    answer = worst(invariant.verdict for invariant in meant)
    names = {kind: ", ".join(i.id for i in meant if i.verdict == kind) for kind in ("fail", "inconclusive")}
    reason = "none of these invariants applies to this experiment" if not meant else ""
    if answer != "pass" and meant:
        reason = "; ".join(f"{kind}: {ids}" for kind, ids in names.items() if ids)
    return ExpectationVerdict(text=expectation.text, verdict=answer, reason=reason)


def _means(expectation: InvariantsHold, invariant: str) -> bool:
    return any(fnmatchcase(invariant, pattern) for pattern in expectation.patterns)


def _asked(experiment: Experiment, invariant: str) -> bool:
    """Whether some expectation of the experiment names it."""
    return any(_means(e, invariant) for e in experiment.expect if isinstance(e, InvariantsHold))


def _convicting(doubts: Sequence[soundness.Doubt]) -> Answer:
    """What a violated invariant makes of the run."""
    return "inconclusive" if any(doubt.spoils == "all" for doubt in doubts) else "fail"


# --- putting it together ------------------------------------------------------------------------
def _tempered(
    verdict: ExpectationVerdict, expectation: Objective | InvariantsHold, doubts: Sequence[soundness.Doubt]
) -> ExpectationVerdict:
    """A failure that a doubt makes doubtful itself is inconclusive; a pass stays as it was measured."""
    if verdict.verdict != "fail":
        return verdict
    for doubt in doubts:
        if doubt.spoils == "all" or (doubt.spoils == "figures" and isinstance(expectation, Objective)):
            return _doubted(verdict, doubt)
        if (
            doubt.spoils == "steady"
            and isinstance(expectation, Objective)
            and (expectation.window, expectation.metric) == ("steady", "success")
        ):
            return _doubted(verdict, doubt)
    return verdict


def _doubted(verdict: ExpectationVerdict, doubt: soundness.Doubt) -> ExpectationVerdict:
    return verdict.model_copy(update={"verdict": "inconclusive", "reason": doubt.text})


def _reasons(
    expectations: Sequence[ExpectationVerdict],
    invariants: Sequence[InvariantVerdict],
    doubts: Sequence[soundness.Doubt],
) -> tuple[str, ...]:
    """Why it is not a pass: failures first, then what cannot be said."""
    said: dict[Answer, list[str]] = {"fail": [], "inconclusive": []}
    for doubt in doubts:
        said[doubt.answer].append(doubt.text)
    for expectation in expectations:
        if expectation.verdict == "pass":
            continue
        text = f"{expectation.text}: "
        text += "broken" if expectation.verdict == "fail" else "cannot be said"
        if expectation.measured is not None:
            text += f", measured {_figure(expectation)} {expectation.unit}".rstrip()
        said[expectation.verdict].append(text + (f" ({expectation.reason})" if expectation.reason else ""))
    for invariant in invariants:
        if invariant.verdict == "fail":
            text = f"{invariant.id} {invariant.title}: {invariant.violations} violations"
            said[_convicting(doubts)].append(text + ("" if invariant.asked else " (no expectation names it)"))
        elif invariant.verdict == "inconclusive" and invariant.asked:
            said["inconclusive"].append(f"{invariant.id} {invariant.title}: {invariant.reason}")
    return tuple(said["fail"] + said["inconclusive"])


def _figure(expectation: ExpectationVerdict) -> str:
    """What was measured, with digits enough to tell it from its limit."""
    value, limit = expectation.measured, expectation.limit
    digits = 6
    while digits < 17 and value != limit and f"{value:.{digits}g}" == f"{limit:.{digits}g}":
        digits += 1
    return f"{value:.{digits}g}"


def _impact(
    case: Case, connection: duckdb.DuckDBPyConnection, recovery: Recovery, by_figure: Counter[str]
) -> dict[str, float | None]:
    try:
        return impact(connection, case.spec, recovery, by_figure)
    except duckdb.Error:  # unreadable operations are a doubt of their own already
        return {name: float(count) for name, count in by_figure.items()}


def _fault_verdict(record: FaultRecord, started_ns: int) -> FaultVerdict:
    injected = record.injected_ns
    length = None
    if injected is not None and record.healed_ns is not None:
        length = round((record.healed_ns - injected) / 1e9, 3)
    return FaultVerdict(
        fault=record.fault,
        on=record.touches,
        at=None if injected is None else round((injected - started_ns) / 1e9, 3),
        proved=record.proof.proved,
        proof=record.proof.text,
        heal_error=record.heal_error,
        **{"for": length},
    )


def _seconds(span: Span, started_ns: int) -> WindowVerdict:
    return WindowVerdict(
        start=round((span.start_ns - started_ns) / 1e9, 3), end=round((span.end_ns - started_ns) / 1e9, 3)
    )


def _replay(case: Case) -> str:
    """The same again: the stored experiment file with the seed, runtime, engine and mutant of this run.

    A run that was aborted before it came up had no runtime and no engine yet.
    """
    environment = case.environment
    words = ["ledgerquake", "run", str(case.folder.path / "experiment.yaml")]
    words += ["--seed", str(environment.seed)]
    if environment.runtime != NOWHERE:
        words += ["--runtime", environment.runtime]
    if environment.toxiproxy != NOWHERE:
        words += ["--toxiproxy", environment.toxiproxy.partition(" ")[0]]
    if environment.mutant:
        words += ["--mutant", environment.mutant]
    return shlex.join(words)


def _crashed(case: Case, error: Exception) -> Verdict:
    aborted = case.timeline.aborted
    reason = f"the judge crashed: {type(error).__name__}: {error}"
    return Verdict(
        name=case.experiment.name,
        verdict="inconclusive",
        seed=case.environment.seed,
        runtime=case.environment.runtime,
        toxiproxy=case.environment.toxiproxy,
        mutant=case.environment.mutant,
        windows={},
        expectations=(),
        invariants=(),
        faults=tuple(_fault_verdict(record, case.timeline.load_started_ns) for record in case.faults),
        reasons=(reason,) if aborted is None else (f"the run was aborted: {aborted}", reason),
        replay=_replay(case),
    )


def read_verdict(folder: RunFolder) -> Verdict:
    """The verdict that was stored. InputError when there is none, or of another version."""
    try:
        return Verdict.model_validate_json(folder.verdict.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {folder.verdict}: {error}") from error
