"""What only some runtimes can do: known beforehand which faults need it, asked for when they are at work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from harness.errors import EnvironmentBroken, InputError
from harness.experiment.vocabulary import ABILITIES, RUNTIME_WITH, Ability
from harness.plan import PlannedFault
from harness.target.runtime import Limiting, Runtime, RuntimeName, Unplugging


def check_abilities(
    faults: Iterable[PlannedFault], runtime: RuntimeName, abilities: frozenset[Ability]
) -> None:
    """Before anything is started. Raises InputError that names every fault beyond this runtime."""
    beyond: dict[str, str] = {}  # by line: its repetitions need the same
    lacking: list[Ability] = []
    for fault in faults:
        missing = [ability for ability in fault.needs if ability not in abilities]
        if missing:
            what = " and ".join(ABILITIES[ability] for ability in missing)
            beyond[fault.place] = f"{fault.place}: {fault.fault} on {fault.touches[0]} must {what}"
            lacking += missing
    if beyond:
        others = sorted({RUNTIME_WITH[ability] for ability in lacking})
        raise InputError(
            f"the {runtime} runtime cannot do what is asked:\n  " + "\n  ".join(beyond.values()),
            hint=" ".join(f"--runtime {name}" for name in others),
        )


def unplugging(runtime: Runtime) -> Unplugging:
    """The runtime, as one that can. Raises EnvironmentBroken."""
    _check(runtime, "unplug")
    return cast(Unplugging, runtime)


def limiting(runtime: Runtime) -> Limiting:
    """The runtime, as one that can. Raises EnvironmentBroken."""
    _check(runtime, "limit")
    return cast(Limiting, runtime)


def _check(runtime: Runtime, ability: Ability) -> None:
    if ability not in runtime.abilities:
        hint = f"--runtime {RUNTIME_WITH[ability]}"
        raise EnvironmentBroken(f"the {runtime.name} runtime cannot {ABILITIES[ability]}", hint=hint)
