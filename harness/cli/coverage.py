"""``python -m harness.cli.coverage REPORTS...``: write ``docs/coverage.md``: which experiment checks what.

The figures are those of real runs, the newest that passed of each experiment in the folders named
(``reports`` without any). An experiment of which they have none keeps what the page said of it: so a few
runs can be made anew. An invariant that no run of any experiment had a subject for is tested by nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.check.judge import read_verdict
from harness.check.verdict import Verdict
from harness.cli.concerns import gather
from harness.errors import InputError
from harness.evidence.folder import RunFolder
from harness.experiment.model import Experiment

PAGE = Path("docs/coverage.md")
HEAD = """\
# Which experiment checks what

Made by `python -m harness.cli.coverage` from runs that passed; a test fails when an invariant is checked by
no experiment, or when an experiment is missing here. A number is how many subjects (payments, records, files,
answers) the invariant was judged on in that run; a violated invariant fails a run whether its experiment asks
for it or not.
"""
RUNS = "| experiment | seed | runtime | invariants with a subject |"
CHECKS = "| invariant | experiments, and on how many subjects |"
_RUN = re.compile(r"^\| \[([^]]+)\]\([^)]+\) \| (\d+) \| (\w+) \| \d+ \|$", re.MULTILINE)
_CHECK = re.compile(r"^\| `([^`]+)` \| (.*?) ?\|$", re.MULTILINE)


class Run(BaseModel):
    """What one run of an experiment checked: invariant to number of subjects, none of them 0."""

    model_config = ConfigDict(frozen=True)

    seed: int
    runtime: str
    checked: Mapping[str, int]


def passed(folders: Iterable[Path]) -> Iterator[Verdict]:
    """Verdicts of the runs in these folders that passed on the real target, oldest first."""
    runs = sorted(
        (file.parent for folder in folders for file in folder.glob("*/verdict.json")),
        key=lambda run: run.name,  # names of run folders begin with the time
    )
    for run in runs:
        try:
            verdict = read_verdict(RunFolder(run))
        except InputError:  # of another version: it says nothing of the invariants of today
            continue
        if verdict.verdict == "pass" and verdict.mutant is None:
            yield verdict


def gathered(verdicts: Iterable[Verdict], experiments: Iterable[Experiment]) -> dict[str, Run]:
    """The newest of each experiment, as it stands: not one that was run with other settings."""
    known = {experiment.name: experiment for experiment in experiments}
    return {
        verdict.name: Run(
            seed=verdict.seed,
            runtime=verdict.runtime,
            checked={i.id: i.checked for i in verdict.invariants if i.verdict == "pass" and i.checked},
        )
        for verdict in verdicts
        if verdict.name in known and verdict.settings == known[verdict.name].settings
    }


def page(runs: Mapping[str, Run], invariants: Iterable[str]) -> str:
    """The page, in Markdown."""
    lines = [HEAD, CHECKS, "|---|---|"]
    for invariant in sorted(invariants):
        counts = {name: run.checked[invariant] for name, run in runs.items() if invariant in run.checked}
        most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"| `{invariant}` | {', '.join(f'{name} {count}' for name, count in most_first)} |")
    lines += ["", "The runs:", "", RUNS, "|---|---|---|---|"]
    for name, run in sorted(runs.items()):
        linked = f"[{name}](../experiments/{name}.yaml)"
        lines.append(f"| {linked} | {run.seed} | {run.runtime} | {len(run.checked)} |")
    return "\n".join([*lines, ""])


def read_page(text: str) -> dict[str, Run]:
    """The runs that a page tells of."""
    counts: dict[str, dict[str, int]] = {name: {} for name, _, _ in _RUN.findall(text)}
    for invariant, listed in _CHECK.findall(text):
        for entry in filter(None, listed.split(", ")):
            name, _, count = entry.rpartition(" ")
            counts.setdefault(name, {})[invariant] = int(count)
    facts = {name: (int(seed), runtime) for name, seed, runtime in _RUN.findall(text)}
    unknown = (0, "unknown")
    return {
        name: Run(seed=facts.get(name, unknown)[0], runtime=facts.get(name, unknown)[1], checked=checked)
        for name, checked in counts.items()
    }


def complaints(
    runs: Mapping[str, Run], invariants: Iterable[str], experiments: Iterable[Experiment]
) -> list[str]:
    """Invariants that nothing checks, experiments without a run, and names of what is not there."""
    invariants, names = set(invariants), {experiment.name for experiment in experiments}
    checked = {invariant for run in runs.values() for invariant, count in run.checked.items() if count > 0}
    return [
        *(f"no experiment checks {name}" for name in sorted(invariants - checked)),
        *(f"no run of {name} that passed" for name in sorted(names - set(runs))),
        *(f"{name} is no experiment" for name in sorted(set(runs) - names)),
        *(f"{name} is no invariant" for name in sorted(checked - invariants)),
    ]


def main(arguments: Sequence[str]) -> int:
    """Write the page; tell what it lacks."""
    _, spec, experiments = gather()
    folders = [Path(argument) for argument in arguments] or [Path("reports")]
    before = read_page(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    names = {experiment.name for experiment in experiments}
    kept = {name: run for name, run in before.items() if name in names}
    runs = kept | gathered(passed(folders), experiments)
    PAGE.write_text(page(runs, spec.invariants), encoding="utf-8")
    told = complaints(runs, spec.invariants, experiments)
    print("\n".join(told) or f"{PAGE}: {len(runs)} experiments check {len(spec.invariants)} invariants")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
