"""``check`` and ``report``: judging and rendering from a run folder alone, without a target."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.files import find_run
from harness.errors import ExitCode

reports_option = click.option(
    "--reports",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    metavar="DIR",
    help="Where a run named by its id is looked for.",
)


@click.command()
@click.argument("run")
@reports_option
@click.option("--json", "as_json", is_flag=True, help="The verdict as one JSON object on standard output.")
def check(run: str, reports: Path, as_json: bool) -> int:
    """Judge a stored run again, and render it again.

    RUN is a run folder, the id of one, or 'latest'. The exit code is that of the new verdict.
    """
    from harness.check.judge import judge
    from harness.evidence.folder import RunFolder
    from harness.report import render

    folder = RunFolder.open(find_run(run, reports))
    verdict = judge(folder)
    folder.write_verdict(verdict)
    render(folder.path)
    if as_json:
        click.echo(json.dumps(verdict.model_dump(mode="json", by_alias=True)))
    else:
        from rich.console import Console

        from harness.report.terminal import print_verdict

        print_verdict(verdict, Console())
    codes = {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}
    return codes[verdict.verdict]


@click.command()
@click.argument("run")
@reports_option
def report(run: str, reports: Path) -> int:
    """Render a stored run again: HTML, JUnit, Markdown.

    RUN is a run folder, the id of one, or 'latest'.
    """
    from harness.evidence.folder import RunFolder
    from harness.report import render

    for file in render(RunFolder.open(find_run(run, reports)).path):
        click.echo(str(file))
    return ExitCode.PASS


COMMANDS = {"check": check, "report": report}
