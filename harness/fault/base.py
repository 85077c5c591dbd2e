"""What a fault is: a small class with its healing as data and its proof from observation.

The order of a fault's life, kept by ``carry_out``::

    healings()   what undoes it, resolved now; the journal has it on disk before anything happens
    inject()     break it
    observe()    look, while it lasts, at what it does; gathers figures, decides nothing
    still()      look right before it is healed: did it last?
    (heal)       apply the healings, last first
    recovered()  look once more: some proofs need the time after
    proof()      pure: from what was seen to a Proof

A fault changes only what its healings can undo. A new fault is one class here, one line in
``registry.py`` and one entry in the parametrised tests.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, TargetSpec
from harness.experiment.vocabulary import HEALING_S, Ability, Lives
from harness.target.runtime import Runtime
from harness.toxiproxy.links import LinkLayer

Duration = Literal["required", "optional", "none"]
OnLinks = Literal["cut", "shaped"]

LEAST_PATIENCE_S = 0.1  # to wait no time at all is nothing that could be asked for


class NoParams(Frozen):
    """A fault without keys of its own."""


@dataclass(frozen=True)
class Context:
    """What a fault may use. ``arrivals_per_s(a_ns, b_ns)`` is the measured arrival rate."""

    spec: TargetSpec
    runtime: Runtime
    links: LinkLayer
    say: Callable[[str], None]
    arrivals_per_s: Callable[[int, int], float | None]
    stopping: Callable[[], bool]

    def sleep(self, seconds: float) -> None:
        """Wait, but not past a stop of the run."""
        deadline = time.monotonic() + seconds
        while not self.stopping() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))


P = TypeVar("P", bound=Frozen)


class Fault(ABC, Generic[P]):
    """One injection of one fault. ``seen`` collects the figures that the proof is made of."""

    name: ClassVar[str]
    family: ClassVar[str]
    duration: ClassVar[Duration] = "required"
    on_links: ClassVar[OnLinks | None] = None  # what it does to the links that it touches
    sets: ClassVar[str | None] = None  # what there is one of, and it sets
    Params: ClassVar[type[Frozen]] = NoParams

    def __init__(self, id: str, params: P, context: Context) -> None:
        self.id = id  # unique in the run
        self.params = params
        self.context = context
        self.seen: dict[str, Any] = {}
        self.until_ns: int | None = None  # when it will be healed; set by carry_out

    @classmethod
    def make(cls, id: str, params: P, context: Context) -> Fault[Any]:
        """What carries it out; a class of its own where the parameters ask for another way altogether."""
        return cls(id, params, context)

    # --- known before anything runs -------------------------------------------------------------
    @classmethod
    @abstractmethod
    def touches(cls, params: Any, spec: TargetSpec) -> tuple[str, ...]:
        """Links, services or roles it will touch; ValueError for a name that does not exist."""

    @classmethod
    @abstractmethod
    def proof_needed(cls, params: Any) -> str:
        """One sentence for people: what must be observed for it to count."""

    @classmethod
    def lives(cls, params: Any) -> Lives | None:
        """``needed``: proved only of services that run on, the same life, until it is healed.
        ``stopped``: it ends or pauses them. ``replaced``: it ends them, and needs the life that comes then.
        None: neither."""
        return None

    @classmethod
    def needs(cls, params: Any) -> frozenset[Ability]:
        return frozenset()

    @classmethod
    def rate_factor(cls, params: Any) -> float:
        return 1.0

    @classmethod
    def shortest_s(cls, params: Any) -> float:
        """The least ``for`` within which its proof can be seen, seconds."""
        return 1.0

    @classmethod
    def longest_s(cls, params: Any, for_s: float | None = None) -> float:
        """What it may last beyond its ``for``, or altogether where it has none, seconds."""
        return HEALING_S

    # --- while it runs --------------------------------------------------------------------------
    @abstractmethod
    def healings(self) -> tuple[Healing, ...]:
        """What undoes it. Called once, right before ``inject``; resolves roles."""

    @abstractmethod
    def inject(self) -> None: ...

    def observe(self) -> None:
        """Look while it lasts; return well before it is healed."""

    def still(self) -> None:
        """Look again right before it is healed; at once. What was seen early may have ended since."""

    def recovered(self) -> None:
        """Look once more after the healing; bounded."""

    @abstractmethod
    def proof(self) -> Proof: ...

    def touched(self) -> tuple[str, ...]:
        """What was really touched, roles resolved."""
        return tuple(self.seen.get("touched", ()))

    def seconds_left(self) -> float:
        """Until it will be healed; a few seconds where it ends by itself."""
        if self.until_ns is None:
            return HEALING_S
        return max(0.0, (self.until_ns - time.time_ns()) / 1e9)

    def patience_s(self, longest_s: float) -> float:
        """How long to wait for an answer that should not come: half of what is left at most."""
        return max(LEAST_PATIENCE_S, min(longest_s, self.seconds_left() / 2))


def known(name: str, what: str, names: Any) -> str:
    """``name`` when it is one of ``names``; else ValueError with the nearest right spelling."""
    import difflib

    choices = sorted(names)
    if name in choices:
        return name
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(choices)}"
    raise ValueError(f"no {what} is called {name!r}; {hint}")
