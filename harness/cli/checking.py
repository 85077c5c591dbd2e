"""``validate`` and ``plan``: everything about an experiment that can be known without running it."""

from __future__ import annotations

import json
import secrets

import click

from harness.cli.files import Loaded, load_all, load_one, raise_together
from harness.errors import ExitCode

overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for any key of the experiment: load.rate=50/s, faults.0.for=5s.",
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@overrides_option
def validate(files: tuple[str, ...], overrides: tuple[str, ...]) -> int:
    """Check experiment files and suites; nothing is started.

    Every mistake is told with its file, line and column. Exit code 2 when there is any.
    """
    errors = []
    for name in files:
        outcome = load_one(name, overrides)
        errors += outcome.errors
        for loaded in outcome.loaded:
            click.echo(f"{loaded.path}: ok: {loaded.experiment.title}")
            tell_advice(loaded)
    raise_together(errors)
    return ExitCode.PASS


@click.command()
@click.argument("file")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="What chance decides; drawn and shown unless given."
)
@click.option("--json", "as_json", is_flag=True, help="The plan as one JSON object.")
@overrides_option
def plan(file: str, seed: int | None, as_json: bool, overrides: tuple[str, ...]) -> int:
    """Show the timeline of an experiment: when what is broken, what it touches, what proof it needs."""
    from harness.plan import make_plan

    seed = draw_seed() if seed is None else seed
    loaded = load_all([file], overrides)
    for item in loaded:
        tell_advice(item)
    plans = [make_plan(item.experiment, item.vocabulary, seed) for item in loaded]
    if as_json:
        dumped = [made.model_dump(mode="json") for made in plans]
        click.echo(json.dumps(dumped[0] if len(dumped) == 1 else dumped, indent=2))
        return ExitCode.PASS
    from rich.console import Console

    from harness.cli.timeline import show_plan

    for item, made in zip(loaded, plans, strict=True):
        show_plan(item.experiment, made, Console())
    return ExitCode.PASS


def tell_advice(loaded: Loaded) -> None:
    """On standard error: what is no mistake, and will be missed."""
    for line in loaded.advice:
        click.echo(line, err=True)


def draw_seed() -> int:
    """For a command that was given none; shown, so that the run can be repeated."""
    return secrets.randbelow(2**31)


COMMANDS = {"validate": validate, "plan": plan}
