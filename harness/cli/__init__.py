"""The command line: one file per group of commands, imported when its command is called.

Everything heavy is imported inside the commands, so that wrong input is told within a moment. What
goes wrong is told in one place, ``main``: a deliberate error as a message with its exit code, wrong
usage as 2, anything unforeseen as 4 with its traceback in a file (or shown, with ``--debug``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from harness.errors import Aborted, ExitCode, LedgerquakeError

# name -> (module of this package, its one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("running", "Run experiments or suites and judge them."),
    "validate": ("checking", "Check experiment files; nothing is started."),
    "plan": ("checking", "Show the resolved timeline of an experiment; nothing is started."),
    "check": ("stored", "Judge a stored run again."),
    "report": ("stored", "Render a stored run again."),
    "list": ("catalogue", "List experiments, faults, invariants, figures, targets or runs."),
    "images": ("images", "Build or list the images of the Docker runtime."),
    "doctor": ("machine", "Show what this machine has, and whether a run can be made."),
    "cleanup": ("running", "Remove whatever a dead run left."),
}


class _Commands(click.Group):
    """Knows the commands by name and imports the module of one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"harness.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from harness.experiment.names import suggestion

            ctx.fail(f"no such command {name!r}: {suggestion(name, COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(package_name="ledgerquake", prog_name="ledgerquake")
def cli(debug: bool) -> None:
    """Break a billing system on purpose, and see whether the money survives.

    \b
    Exit codes: 0 pass, 1 fail, 2 bad input, 3 inconclusive,
    4 the harness or its environment broke, 130 aborted.
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: run one command and exit with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments[:1]
    try:
        code = cli.main(args=arguments, prog_name="ledgerquake", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.PASS
    except click.ClickException as error:
        error.show()
        return ExitCode.BAD_INPUT
    except LedgerquakeError as error:
        if debug:
            _show_traceback()
        _tell(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell("aborted")
        return Aborted.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; point it elsewhere so that the interpreter's last flush is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN
    except Exception as error:
        _tell_unforeseen(error, debug)
        return ExitCode.BROKEN


def _tell(text: str) -> None:
    click.echo(text.encode("utf-8", "backslashreplace"), err=True)


def _tell_unforeseen(error: Exception, debug: bool) -> None:
    """A mistake of the harness itself: one line for people, the traceback where it can be found."""
    from traceback import format_exc

    _tell(f"the harness broke: {type(error).__name__}: {error}")
    if debug:
        _show_traceback()
        return
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(
        "w", prefix="ledgerquake-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as log:
        log.write(format_exc())
    _tell(f"  hint: the traceback is in {log.name}; --debug shows it here")


def _show_traceback() -> None:
    from traceback import format_exc

    _tell(format_exc())
