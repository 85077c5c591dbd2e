"""Every error the harness raises on purpose, and the exit code each one means.

    LedgerquakeError                     exit 4: the harness or its environment broke
    ├── InputError                       exit 2: something the user wrote is wrong
    │   ├── ExperimentError              an experiment file: carries file, line, column
    │   │   └── ExperimentErrors         several of them at once
    │   └── TargetError                  a target folder
    ├── EnvironmentBroken                exit 4: a tool, port, image or disk is missing
    │   ├── NotReady                     waited for something that never came
    │   └── LinkError                    the Toxiproxy engine refused, hung or lied
    ├── Inconclusive                     exit 3: nothing can be said about the target
    │   └── FaultNotProved               a fault has no proof that it took effect
    └── Aborted                          exit 130: a person stopped the run

Nothing else may live here: this module is the floor of the house and imports nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ExitCode:
    """Exit codes of the command line, as the README lists them."""

    PASS = 0
    FAIL = 1
    BAD_INPUT = 2
    INCONCLUSIVE = 3
    BROKEN = 4
    ABORTED = 130


class LedgerquakeError(Exception):
    """Base of all deliberate errors. ``hint`` says what would be right; notes, what went wrong after it."""

    exit_code = ExitCode.BROKEN

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message, *(f"then: {note}" for note in getattr(self, "__notes__", ()))]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n  ".join(lines)


class InputError(LedgerquakeError):
    """Something the user wrote or asked for is wrong."""

    exit_code = ExitCode.BAD_INPUT


@dataclass(frozen=True)
class Mark:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ExperimentError(InputError):
    """A fault in an experiment file, with the place where it stands."""

    def __init__(self, message: str, mark: Mark, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.mark = mark

    def __str__(self) -> str:
        return f"{self.mark}: {super().__str__()}"


class ExperimentErrors(ExperimentError):
    """Several faults in one file, in the order in which they stand."""

    def __init__(self, errors: Sequence[ExperimentError]) -> None:
        super().__init__(errors[0].message, errors[0].mark, hint=errors[0].hint)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class TargetError(InputError):
    """A target folder that cannot be used."""


class EnvironmentBroken(LedgerquakeError):
    """This machine cannot do what was asked: a tool, a port, a disk."""


class NotReady(EnvironmentBroken):
    """A wait that ran out. Say what was awaited, for how long, the last status and log lines."""


class LinkError(EnvironmentBroken):
    """The Toxiproxy engine refused, hung, or reported a state other than the one asked for."""


class Inconclusive(LedgerquakeError):
    """Nothing can be said about the target."""

    exit_code = ExitCode.INCONCLUSIVE


class FaultNotProved(Inconclusive):
    """A fault was injected and nothing shows that it took effect."""


class Aborted(LedgerquakeError):
    """A person, or the process's owner, stopped the run."""

    exit_code = ExitCode.ABORTED
