"""``list``: what there is to use, and what has been run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.files import experiment_files, load_one, run_folders, target_folders
from harness.errors import ExitCode, InputError
from harness.experiment.names import suggestion

if TYPE_CHECKING:
    from harness.experiment.target import TargetSpec

Rows = list[tuple[str, ...]]


@click.group(name="list")
def catalogue() -> None:
    """List experiments, faults, invariants, figures, targets or runs."""


target_option = click.option("--target", metavar="NAME", help="Only of this target.")
reports_option = click.option(
    "--reports", type=click.Path(path_type=Path), default=Path("reports"), show_default=True, metavar="DIR"
)


@catalogue.command()
def experiments() -> int:
    """Experiments and suites in the nearest experiments/."""
    rows: Rows = []
    for file in experiment_files(Path.cwd()):
        outcome = load_one(str(file))
        if file.parent.name == "suites":
            names = ", ".join(loaded.experiment.name for loaded in outcome.loaded)
            rows.append((file.stem, "suite", f"{outcome.title}: {names}" if outcome.title else names))
        for loaded in outcome.loaded if file.parent.name != "suites" else []:
            rows.append((file.stem, loaded.experiment.target, loaded.experiment.title))
        if outcome.errors:
            rows.append((file.stem, "NOT VALID", f"see: ledgerquake validate {file}"))
    return show(("experiment", "target", "title"), rows, "no experiments/ here or above")


@catalogue.command()
def faults() -> int:
    """All faults, with their keys."""
    from harness.fault.registry import FAULTS

    rows: Rows = []
    for name, kind in sorted(FAULTS.items(), key=lambda item: (item[1].family, item[0])):
        keys = [key if field.is_required() else f"[{key}]" for key, field in kind.Params.model_fields.items()]
        lasts = {"required": "for", "optional": "[for]", "none": ""}[kind.duration]
        text = (kind.__doc__ or "").strip().partition("\n")[0]
        rows.append((name, kind.family, " ".join(filter(None, [lasts, *keys])), text))
    return show(("fault", "family", "keys", "what it does"), rows, "there are none")


@catalogue.command()
@target_option
def invariants(target: str | None) -> int:
    """What must hold, by target."""
    rows: Rows = []
    for spec in _targets(target):
        for invariant in sorted(spec.invariants.values(), key=lambda invariant: invariant.id):
            rows.append((invariant.id, spec.name, " ".join(invariant.applies) or "always", invariant.title))
    return show(("invariant", "target", "applies to", "title"), rows, "there are none")


@catalogue.command()
@target_option
def figures(target: str | None) -> int:
    """What a run costs the business: figures of the targets' own, then what is counted of every target."""
    from harness.check.impact import FUNCTION_FIGURES, OVERALL

    rows: Rows = []
    for spec in _targets(target):
        for figure in sorted(spec.figures.values(), key=lambda figure: figure.id):
            unit = f"{figure.unit}, model" if figure.model else figure.unit
            rows.append((figure.id, spec.name, unit, " ".join(figure.applies) or "always", figure.title))
    every = {f"<function>_{key}": told for key, told in FUNCTION_FIGURES.items()}
    every |= {name: (note.title, note.unit) for name, note in OVERALL.items()}
    rows += [(name, "every", unit, "always", title) for name, (title, unit) in every.items()]
    return show(("figure", "target", "unit", "applies to", "title"), rows, "there are none")


@catalogue.command()
def targets() -> int:
    """Targets in the nearest targets/."""
    rows = [
        (spec.name, f"{len(spec.services)} services, {len(spec.links)} links", ", ".join(spec.functions))
        for spec in _targets(None)
    ]
    return show(("target", "size", "functions"), rows, "no targets/ here or above")


@catalogue.command()
@reports_option
def runs(reports: Path) -> int:
    """Stored runs, the newest last."""
    from harness.check.verdict import Verdict

    rows: Rows = []
    for folder in run_folders(reports):
        try:
            verdict = Verdict.model_validate_json((folder / "verdict.json").read_bytes())
            rows.append((folder.name, verdict.verdict, str(verdict.seed), "; ".join(verdict.reasons[:1])))
        except (OSError, ValueError):
            rows.append((folder.name, "no verdict", "", ""))
    return show(("run", "verdict", "seed", "first reason"), rows, f"none in {reports}/")


def _targets(name: str | None) -> Iterator[TargetSpec]:
    from harness.target.folder import load_target

    folders = {folder.name: folder for folder in target_folders(Path.cwd())}
    if name is not None and name not in folders:
        raise InputError(f"no target is called {name!r}", hint=suggestion(name, folders))
    for folder in folders.values():
        if name in (None, folder.name):
            yield load_target(folder)


def show(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], nothing: str) -> int:
    """Columns on a terminal; one line per row, tab-separated, for other programs."""
    from sys import stdout

    if not rows:
        click.echo(nothing, err=True)
    elif not stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
    else:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
    return ExitCode.PASS


COMMANDS = {"list": catalogue}
