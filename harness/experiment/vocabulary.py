"""The words an experiment may use: faults by name, and the target's description.

The higher rooms hand these down (``harness.fault`` knows the faults, ``harness.target`` the target),
so that checking and planning stay pure and import nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BeforeValidator, Field, WithJsonSchema

from harness.experiment.target import Frozen, TargetSpec


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_ONE_OR_MANY = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}

Names = Annotated[
    tuple[str, ...], Field(min_length=1), BeforeValidator(_one_or_many), WithJsonSchema(_ONE_OR_MANY)
]
"""One name or pattern, or a list of them: for the parameters of faults."""


Ability = Literal["unplug", "limit"]  # what not every runtime can do to a service

ABILITIES: Mapping[Ability, str] = {
    "unplug": "take a service off its networks",
    "limit": "limit what a service may use",
}
RUNTIME_WITH: Mapping[Ability, str] = {"unplug": "docker", "limit": "docker"}


def abilities_of(runtime: str) -> frozenset[Ability]:
    """What the runtime of that name can do beyond what all can."""
    return frozenset(ability for ability, name in RUNTIME_WITH.items() if name == runtime)


# What a fault has to do with the lives of the services it touches.
Lives = Literal["needed", "stopped", "replaced"]

HEALING_S = 5.0  # a healing is a request or a process's start; kinds that may take longer say so


class FaultKind(Protocol):
    """What planning needs to know of a fault. Classes in ``harness.fault`` satisfy it.

    ``Params`` is a frozen pydantic model of the fault's own keys (extra keys forbidden). None of them
    may be called like a key that all faults share (``COMMON_KEYS``).
    """

    name: ClassVar[str]
    family: ClassVar[str]
    Params: ClassVar[type[Frozen]]
    duration: ClassVar[Literal["required", "optional", "none"]]  # of `for`; none: it ends by itself
    on_links: ClassVar[Literal["cut", "shaped"] | None]  # cut: nothing else can be seen on them meanwhile
    sets: ClassVar[str | None]  # what there is one of, so that two faults cannot set it at once

    @classmethod
    def touches(cls, params: Any, spec: TargetSpec) -> tuple[str, ...]:
        """Links, services or roles it will touch.

        Raises ValueError with a sentence naming the wrong key, value and the right spellings.
        """
        ...

    @classmethod
    def lives(cls, params: Any) -> Lives | None:
        """``needed``: proved only of services that run on, the same life, until it is healed.
        ``stopped``: it ends or pauses them. ``replaced``: it ends them, and needs the life that comes then.
        None: neither."""
        ...

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        """What the runtime must be able to do, beyond what all can."""
        ...

    @classmethod
    def proof_needed(cls, params: Any) -> str:
        """One sentence: what must be observed for the fault to count."""
        ...

    @classmethod
    def rate_factor(cls, params: Any) -> float:
        """Factor on the arrival rate while it lasts; 1.0 for all but load faults."""
        ...

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        """The least ``for`` within which its proof can be seen, seconds."""
        ...

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        """What it may last beyond its ``for`` (``for_s``, where that matters), or altogether where it has
        none, seconds; ``HEALING_S`` for the healing included."""
        ...


@dataclass(frozen=True)
class Vocabulary:
    """All that names can refer to."""

    faults: Mapping[str, type[FaultKind]]
    target: TargetSpec
