"""The words an experiment may use: faults by name, and the target's description.

The higher rooms hand these down (``harness.fault`` knows the faults, ``harness.target`` the target),
so that checking and planning stay pure and import nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from harness.experiment.target import Frozen, TargetSpec


class FaultKind(Protocol):
    """What planning needs to know of a fault. Classes in ``harness.fault`` satisfy it.

    ``Params`` is a frozen pydantic model of the fault's own keys (extra keys forbidden).
    """

    name: ClassVar[str]
    family: ClassVar[str]
    Params: ClassVar[type[Frozen]]
    duration: ClassVar[str]  # "required", "optional" or "none" (it ends by itself)

    @classmethod
    def touches(cls, params: Any, spec: TargetSpec) -> tuple[str, ...]:
        """Links, services or roles it will touch.

        Raises ValueError with a sentence naming the wrong key, value and the right spellings.
        """
        ...

    @classmethod
    def proof_needed(cls, params: Any) -> str:
        """One sentence: what must be observed for the fault to count."""
        ...

    @classmethod
    def rate_factor(cls, params: Any) -> float:
        """Factor on the arrival rate while it lasts; 1.0 for all but load faults."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """All that names can refer to."""

    faults: Mapping[str, type[FaultKind]]
    target: TargetSpec
    extra_metrics: tuple[str, ...] = ()
