"""``python -m harness.cli.concerns``: write ``docs/seed.md`` anew: what answers each concern of the domain.

A target's ``concerns.yaml`` names, for each concern, the services that do it, the faults that break it, the
invariants and the figures that speak of it; experiments name the concerns that they play out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.check.impact import FUNCTION_FIGURES, OVERALL
from harness.errors import InputError
from harness.experiment.invariant_head import read_head
from harness.experiment.model import Experiment
from harness.experiment.target import TargetSpec

EXPERIMENTS = Path("experiments")
TARGET = Path("targets/billing")
PAGE = Path("docs/seed.md")
HEAD = """\
# What is at stake, and what answers it

Made by `python -m harness.cli.concerns` from `targets/billing/concerns.yaml` and the experiments; a test
fails when it is out of date, when a concern is answered by nothing, or by something that does not exist.

Services and invariants are those of [the reference stack](../targets/billing/README.md); faults are explained
in [Writing an experiment](writing-experiments.md); figures stand under "impact" in each report.
"""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Concern(Strict):
    """One thing that people fear, need or do, and by what name it is found here."""

    title: str
    services: tuple[str, ...]
    faults: tuple[str, ...]
    invariants: tuple[str, ...]
    figures: tuple[str, ...]


class Group(Strict):
    title: str
    concerns: Mapping[int, Concern]


class Concerns(Strict):
    groups: tuple[Group, ...]

    @property
    def by_number(self) -> dict[int, Concern]:
        return {number: concern for group in self.groups for number, concern in group.concerns.items()}


def read_concerns(file: Path) -> Concerns:
    """Raises InputError when the file cannot be read or says something else."""
    try:
        return Concerns.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"{file} does not say what answers each concern: {error}") from error


def known_figures(spec: TargetSpec) -> set[str]:
    """Every figure that a run of this target may have."""
    counted = {f"{function}_{name}" for function in spec.functions for name in FUNCTION_FIGURES}
    heads = (
        read_head((Path(spec.folder) / known.file).read_text(encoding="utf-8"), known.file)
        for known in spec.invariants.values()
    )
    by_invariants = {head.impact[0] for head in heads if head.impact}
    return counted | set(OVERALL) | set(spec.figures) | by_invariants


def complaints(
    concerns: Concerns, spec: TargetSpec, experiments: Iterable[Experiment], faults: Iterable[str]
) -> list[str]:
    """What is answered by nothing, or by something that is not there; and names without a concern."""
    experiments = list(experiments)
    known = {
        "services": set(spec.services),
        "faults": set(faults),
        "invariants": set(spec.invariants),
        "figures": known_figures(spec),
    }
    found = []
    for number, concern in concerns.by_number.items():
        for sort, names in known.items():
            given = getattr(concern, sort)
            if not given:
                found.append(f"concern {number} ({concern.title}) has no {sort}")
            found += [
                f"concern {number}: {sort} has {name!r}, which is not there"
                for name in given
                if name not in names
            ]
        if not any(number in experiment.concerns for experiment in experiments):
            found.append(f"no experiment plays out concern {number} ({concern.title})")
    for experiment in experiments:
        found += [
            f"{experiment.name} names concern {number}, which is not there"
            for number in experiment.concerns
            if number not in concerns.by_number
        ]
    idle = known["invariants"] - {
        name for concern in concerns.by_number.values() for name in concern.invariants
    }
    return found + [f"invariant {name} answers no concern" for name in sorted(idle)]


def page(concerns: Concerns, experiments: Iterable[Experiment]) -> str:
    """The page, in Markdown."""
    experiments = sorted(experiments, key=lambda experiment: experiment.name)
    lines = [HEAD]
    for group in concerns.groups:
        lines += [f"## {group.title}", ""]
        lines += ["| # | concern | services | faults | invariants | experiments | figures |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for number, concern in group.concerns.items():
            played = [
                f"[{experiment.name}](../experiments/{experiment.name}.yaml)"
                for experiment in experiments
                if number in experiment.concerns
            ]
            cells = [
                str(number),
                concern.title,
                _listed(concern.services),
                _listed(concern.faults),
                _listed(concern.invariants),
                ", ".join(played),
                _listed(concern.figures),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def gather() -> tuple[Concerns, TargetSpec, list[Experiment]]:
    """Concerns, target and experiments of this project. Raises InputError."""
    from harness.cli.files import load_all
    from harness.target.folder import load_target

    files = sorted(str(file) for file in EXPERIMENTS.glob("*.yaml"))
    experiments = [loaded.experiment for loaded in load_all(files)]
    return read_concerns(TARGET / "concerns.yaml"), load_target(TARGET), experiments


if __name__ == "__main__":
    _concerns, _, _experiments = gather()
    PAGE.write_text(page(_concerns, _experiments), encoding="utf-8")
