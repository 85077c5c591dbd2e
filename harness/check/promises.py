"""What each invariant of the target says of a run, and what an expectation makes of them.

A violated invariant fails the run whether or not an expectation names it; one that cannot be said
counts only where one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import duckdb

from harness.check.case import Case
from harness.check.figures import Value
from harness.check.invariants import NOTHING, Found, InvariantFile, parse_invariant, run_invariant
from harness.check.stories import tell_stories
from harness.check.verdict import Example, ExpectationVerdict, InvariantVerdict, worst
from harness.errors import TargetError
from harness.experiment.model import Experiment, InvariantsHold


@dataclass
class Tally:
    """Violations that count for one business figure, over all invariants that count for it."""

    counts: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # why one of them could not count

    def take(self, id: str, found: Found) -> None:
        if found.impact is not None:
            self.counts.append(found.impact)
        elif found.reason != NOTHING:
            self.broken.append(f"{id}: {found.reason}")

    @property
    def value(self) -> Value:
        """Their sum; half of a count would be a wrong one."""
        if self.broken or not self.counts:
            return Value(None, "; ".join(self.broken) or NOTHING)
        return Value(float(sum(self.counts)))


def judge_invariants(
    case: Case, connection: duckdb.DuckDBPyConnection, untimely: str | None
) -> tuple[tuple[InvariantVerdict, ...], dict[str, Tally]]:
    """All invariants of the target, and their violations by business figure.

    ``untimely``: why time itself is in doubt. Then whatever came too late convicts nobody.
    """
    verdicts: list[InvariantVerdict] = []
    by_figure: dict[str, Tally] = {}
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
        found = run_invariant(connection, file, present)
        if file.head.impact and found.answer != "not_applicable":
            by_figure.setdefault(file.head.impact[0], Tally()).take(file.id, found)
        if found.answer == "fail" and file.head.liveness and untimely is not None:
            found = replace(found, answer="inconclusive", reason=untimely)
        verdicts.append(_with_stories(case, connection, file, found))
    return tuple(verdicts), by_figure


def _with_stories(
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


def judge_expectation(
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
