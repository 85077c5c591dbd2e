"""The verdict on a stored run: pure over its folder, so it can be given again at any time.

What makes a run inconclusive stands in ``soundness``. Some of these also take the edge off a failure,
because they make it doubtful itself: an incomplete history, an aborted run, or a part of the harness
that broke, convicts nobody; a load that was not kept up convicts nobody of slowness.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import duckdb

from harness.check import soundness
from harness.check.case import NOWHERE, Case
from harness.check.impact import impact
from harness.check.objectives import Figures
from harness.check.promises import judge_expectation, judge_invariants
from harness.check.punctuality import Punctuality
from harness.check.recovery import Recovery, recover
from harness.check.verdict import (
    Answer,
    ExpectationVerdict,
    FaultVerdict,
    InvariantVerdict,
    Verdict,
    WindowVerdict,
    worst,
)
from harness.check.windows import Span, watched, windows_of
from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.evidence.model import FaultRecord
from harness.evidence.views import add_table, open_evidence
from harness.experiment.model import Objective


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
    invariants, by_figure = judge_invariants(
        case, connection, _untimely(doubts, recovery, case.ended_ns, punctuality)
    )
    figures = Figures(connection, case.spec, windows, recovery, case.ended_ns, punctuality)
    expectations = tuple(
        _tempered(figures.judge(expectation), soundness.spoiling_objective(doubts, expectation))
        if isinstance(expectation, Objective)
        else _tempered(judge_expectation(expectation, invariants), soundness.spoiling_invariants(doubts))
        for expectation in case.experiment.expect
    )
    violated = [_convicting(doubts) for invariant in invariants if invariant.verdict == "fail"]
    verdict = worst([*(e.verdict for e in expectations), *violated, *(doubt.answer for doubt in doubts)])
    started = case.timeline.load_started_ns
    impacts, notes = impact(case, connection, recovery, by_figure)
    return Verdict(
        name=case.experiment.name,
        verdict=verdict,
        seed=case.environment.seed,
        runtime=case.environment.runtime,
        toxiproxy=case.environment.toxiproxy,
        mutant=case.environment.mutant,
        settings=case.experiment.settings,
        windows={name: _seconds(span, started) for name, span in windows.items()},
        recovery_s=recovery.seconds(recovery.overall_ns),
        expectations=expectations,
        invariants=invariants,
        faults=tuple(_fault_verdict(record, started) for record in case.faults),
        impact=impacts,
        impact_notes=notes,
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


def _untimely(
    doubts: Sequence[soundness.Doubt], recovery: Recovery, ended_ns: int, punctuality: Punctuality
) -> str | None:
    """Why what came too late convicts nobody: it may be the machine's, or the generator's, doing."""
    if doubt := soundness.spoiling_time(doubts):
        return doubt.text
    if (span := watched(recovery, ended_ns)) is None:
        return None
    try:
        complaint = punctuality.complaint(span)
    except duckdb.Error:  # unreadable operations are a doubt of their own already
        return None
    return f"the load generator was late after the healing: {complaint}" if complaint else None


def _convicting(doubts: Sequence[soundness.Doubt]) -> Answer:
    """What a violated invariant makes of the run."""
    return "inconclusive" if soundness.spoiling_invariants(doubts) else "fail"


def _tempered(verdict: ExpectationVerdict, doubt: soundness.Doubt | None) -> ExpectationVerdict:
    """A failure that is doubtful itself is inconclusive; a pass stays as it was measured."""
    if verdict.verdict != "fail" or doubt is None:
        return verdict
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
        settings=case.experiment.settings,
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
