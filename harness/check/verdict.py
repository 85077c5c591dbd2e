"""The verdict as data: ``verdict.json``, version 1. Stable: see CHANGELOG for every change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import ConfigDict, Field

from harness.experiment.figure_head import GROUPS, Unit
from harness.experiment.target import Frozen

Answer = Literal["pass", "fail", "inconclusive"]
InvariantAnswer = Literal["pass", "fail", "inconclusive", "not_applicable"]


class ExpectationVerdict(Frozen):
    """``measured`` and ``limit`` in the metric's base unit (%, ms, per second)."""

    text: str
    verdict: Answer
    measured: float | None = None
    limit: float | None = None
    window: str | None = None
    unit: str = ""
    reason: str = ""


class TimelineEntry(Frozen):
    """One thing that happened to a subject, for the story of a counter-example."""

    at_ns: int
    source: str  # "operation", "witness psp-a", "payments.payment", "fault", ...
    text: str


class Example(Frozen):
    """A counter-example: the violating row and what happened to its subject."""

    subject: str
    row: dict[str, Any]
    timeline: tuple[TimelineEntry, ...] = ()


class InvariantVerdict(Frozen):
    """``checked`` is what ``needs`` counted; ``violations`` the number of rows returned.

    ``asked``: some expectation names it. Violated, it counts anyway; inconclusive, only where it was asked.
    """

    id: str
    title: str
    verdict: InvariantAnswer
    asked: bool = True
    checked: int = 0
    violations: int = 0
    examples: tuple[Example, ...] = ()
    reason: str = ""


class FigureNote(Frozen):
    """What a figure of ``impact`` is. ``reason``: why it is null.

    ``model``: it rests on assumptions, and was not measured. ``function``: whose it is, of those that
    are counted for each function.
    """

    title: str
    unit: Unit
    model: bool = False
    group: str = GROUPS[-1]
    function: str | None = None
    reason: str = ""


class FaultVerdict(Frozen):
    """``at``: seconds from the start of load; None: it was never injected.

    ``heal_error``: it could not be undone, and was left in place; None: it was healed, or never injected.
    """

    fault: str
    on: tuple[str, ...]
    at: float | None
    for_s: float | None = Field(alias="for", default=None)
    proved: bool
    proof: str
    heal_error: str | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class WindowVerdict(Frozen):
    """Seconds from the start of load."""

    start: float
    end: float


class Verdict(Frozen):
    """The whole verdict of one run. ``reasons`` say why it is not a pass, worst first."""

    version: Literal[1] = 1
    name: str
    verdict: Answer
    seed: int
    runtime: str
    toxiproxy: str
    mutant: str | None = None
    settings: dict[str, dict[str, str]] = Field(default_factory=dict)  # those the experiment gave the target
    windows: dict[str, WindowVerdict]
    recovery_s: float | None = None
    expectations: tuple[ExpectationVerdict, ...]
    invariants: tuple[InvariantVerdict, ...]
    faults: tuple[FaultVerdict, ...]
    impact: dict[str, float | None] = Field(default_factory=dict)
    impact_notes: dict[str, FigureNote] = Field(default_factory=dict)  # one for each of ``impact``
    reasons: tuple[str, ...] = ()
    replay: str


_ORDER = {"pass": 0, "not_applicable": 0, "inconclusive": 1, "fail": 2}


def worst(answers: Iterable[str]) -> Answer:
    """The worst of some answers; nothing at all is inconclusive."""
    ranked = sorted(answers, key=lambda answer: _ORDER[answer])
    if not ranked:
        return "inconclusive"
    top = ranked[-1]
    return "pass" if top == "not_applicable" else top  # type: ignore[return-value]
