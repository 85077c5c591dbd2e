"""``run`` and ``cleanup``: the commands that touch a running system.

Everything that can be wrong with the input is found before the first thing is started.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.checking import draw_seed, overrides_option, tell_advice
from harness.cli.files import Loaded, load_all, worst_exit
from harness.errors import Aborted, ExitCode, InputError, LedgerquakeError
from harness.experiment.names import suggestion

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment.target import Mutant, TargetSpec
    from harness.plan import Plan
    from harness.run.conductor import Stagehand
    from harness.run.ground import Ground, RuntimePreference
    from harness.run.runner import RunResult
    from harness.toxiproxy.find import Preference


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "process", "docker"]),
    default="auto",
    show_default=True,
    help="Where the target runs; auto takes Docker where an engine answers and has the images.",
)
@click.option(
    "--docker-host",
    metavar="URL",
    help="Another Docker engine than the local socket; it must run on this machine.",
)
@click.option(
    "--toxiproxy",
    type=click.Choice(["auto", "server", "builtin"]),
    default="auto",
    show_default=True,
    help="The engine of the links; auto takes the real server where there is one.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="What chance decides; drawn and shown unless given."
)
@click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    metavar="DIR",
    help="Where run folders are made.",
)
@overrides_option
@click.option(
    "--mutant", metavar="NAME", help="Run this broken variant of the target instead of the healthy one."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, all else on standard error."
)
def run(
    files: tuple[str, ...],
    runtime: RuntimePreference,
    docker_host: str | None,
    toxiproxy: Preference,
    seed: int | None,
    reports: Path,
    overrides: tuple[str, ...],
    mutant: str | None,
    as_json: bool,
) -> int:
    """Run experiments or suites, judge them, and write a report for each.

    FILE is a file, or the name of an experiment in experiments/. With several, the worst exit code
    wins, in the order 4, 1, 3, 0.
    """
    try:
        experiments = load_all(files, overrides)
        seed = draw_seed() if seed is None else seed
        orders = [_order(loaded, mutant, seed) for loaded in experiments]
        for loaded in experiments:
            tell_advice(loaded)
        from harness.fault.abilities import check_abilities
        from harness.run.ground import find_ground

        targets = list({loaded.spec.folder: loaded.spec for loaded in experiments}.values())
        ground = find_ground(
            runtime,
            toxiproxy,
            targets,
            docker_host=docker_host,
            say=lambda text: click.echo(text, err=True),
        )
        for order in orders:
            check_abilities(order.plan.faults, ground.name, ground.abilities)
    except LedgerquakeError as error:
        if as_json:
            _print_json({"exit_code": error.exit_code, "error": str(error), "runs": []})
        raise
    results: list[RunResult] = []
    code = ExitCode.BROKEN
    try:
        _run_all(orders, ground, reports, as_json, results)
        code = worst_exit(result.exit_code for result in results)
    finally:  # what was reached is told, whatever ended the series
        if as_json:
            _print_json({"exit_code": code, "seed": seed, "runs": [_as_json(result) for result in results]})
    return code


@dataclass(frozen=True)
class _Order:
    """One run that is to be made: checked and planned."""

    loaded: Loaded
    plan: Plan
    mutant: Mutant | None


def _order(loaded: Loaded, mutant: str | None, seed: int) -> _Order:
    from harness.plan import make_plan

    plan = make_plan(loaded.experiment, loaded.vocabulary, seed)
    return _Order(loaded, plan, _mutant(loaded.spec, mutant))


def _mutant(spec: TargetSpec, name: str | None) -> Mutant | None:
    if name is None:
        return None
    from harness.target.folder import load_mutants

    mutants = load_mutants(spec)
    if name not in mutants:
        raise InputError(f"target {spec.name!r} has no mutant {name!r}", hint=suggestion(name, mutants))
    return mutants[name]


def _run_all(
    orders: Sequence[_Order],
    ground: Ground,
    reports: Path,
    as_json: bool,
    results: list[RunResult],
) -> None:
    """One after another, each into ``results`` at once; only a person's abort ends the series."""
    from rich.console import Console

    progress_console = Console(stderr=True)
    verdict_console = progress_console if as_json else Console()
    command = shlex.join(["ledgerquake", *sys.argv[1:]])
    for order in orders:
        with _progress(progress_console) as progress:
            result = _run_one(order, ground, reports, command, progress)
        results.append(result)
        _tell_result(result, verdict_console, progress_console)
        if result.exit_code == ExitCode.ABORTED:
            break


def _run_one(
    order: _Order,
    ground: Ground,
    reports: Path,
    command: str,
    progress: Stagehand,
) -> RunResult:
    """Whatever happens to one run is its result: verdicts of the others are not lost for it."""
    from harness.run.runner import Asked, RunResult, deliberate, run_experiment

    loaded, name = order.loaded, order.loaded.experiment.name
    asked = Asked(
        loaded.experiment, loaded.source, loaded.spec, order.plan, ground, order.mutant, reports, command
    )
    try:
        return run_experiment(asked, progress)
    except KeyboardInterrupt:  # before the run watches for signals
        return RunResult(name, None, ExitCode.ABORTED, error=Aborted("stopped by SIGINT"))
    except Exception as problem:
        error = deliberate(problem)
        return RunResult(name, None, error.exit_code, error=error)


def _progress(console: Console) -> AbstractContextManager[Any]:
    from harness.report.progress import Progress

    return Progress(console, plain=not console.is_terminal)


def _tell_result(result: RunResult, verdicts: Console, errors: Console) -> None:
    from rich.text import Text

    from harness.report.terminal import print_verdict

    if result.verdict is not None:
        print_verdict(result.verdict, verdicts)
    if result.error is not None:
        errors.print(Text(f"{result.name}: {result.error}", style="red"), soft_wrap=True)
    if result.folder is not None:
        errors.print(Text(f"run folder: {result.folder}"), soft_wrap=True)


def _as_json(result: RunResult) -> dict[str, Any]:
    verdict = result.verdict.model_dump(mode="json", by_alias=True) if result.verdict else None
    return {
        "name": result.name,
        "exit_code": result.exit_code,
        "folder": str(result.folder) if result.folder is not None else None,
        "verdict": verdict,
        "error": str(result.error) if result.error else None,
    }


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value))


@click.command()
@click.option("--docker-host", metavar="URL", help="Another Docker engine than the local socket.")
def cleanup(docker_host: str | None) -> int:
    """Remove whatever a dead run left. Living runs are not touched."""
    from harness.run import cleanup as cleaning

    removed = cleaning.cleanup(docker_host, lambda note: click.echo(note, err=True))
    for line in removed:
        click.echo(f"removed {line}")
    if not removed:
        click.echo("nothing was left behind")
    return ExitCode.PASS


COMMANDS = {"run": run, "cleanup": cleanup}
