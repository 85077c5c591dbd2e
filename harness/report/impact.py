"""The business impact for people: a table of the functions, and the other figures by group.

Every format shows the same: money with two decimals, what is a model marked as one, and what cannot be
said with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.check.impact import FUNCTION_FIGURES
from harness.check.verdict import FigureNote, Verdict
from harness.experiment.figure_head import GROUPS, Unit
from harness.report import words

UNSAID = "cannot be said"
# Of figures that an older verdict has no notes on: by the end of the name, the longer ends first.
_UNIT_BY_END: Mapping[str, Unit] = {
    "_minor_s": "minor_s",
    "_minor": "minor",
    "_percent": "percent",
    "_s": "s",
}


@dataclass(frozen=True)
class Line:
    """One figure. ``reason``: why it cannot be said. ``nothing``: it is 0, so nothing happened."""

    title: str
    text: str
    model: bool = False
    reason: str = ""
    nothing: bool = False


@dataclass(frozen=True)
class FunctionTable:
    """``heads`` stand over the figures; a row is a function with a figure, or None, for each.

    ``unsaid``: one sentence for each reason for which some of them cannot be said.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Line | None, ...]], ...]
    unsaid: tuple[str, ...] = ()


def function_table(verdict: Verdict, *, brief: bool = False) -> FunctionTable:
    """What is counted for each function; without columns that no function has.

    ``brief``: also without those in which all of them have 0.
    """
    found: dict[str, dict[str, Line]] = {}
    for name, note in _noted(verdict):
        if note.function is not None:
            key = name.removeprefix(f"{note.function}_")
            found.setdefault(note.function, {})[key] = _line(verdict.impact[name], note)
    used = {key for lines in found.values() for key, line in lines.items() if not (brief and line.nothing)}
    keys = [key for key in FUNCTION_FIGURES if key in used]
    rows = tuple((name, tuple(lines.get(key) for key in keys)) for name, lines in found.items())
    return FunctionTable(tuple(FUNCTION_FIGURES[key][0] for key in keys), rows, _unsaid(found))


def _unsaid(found: Mapping[str, Mapping[str, Line]]) -> tuple[str, ...]:
    whose: dict[tuple[str, str], list[str]] = {}
    for function, lines in found.items():
        for key, line in lines.items():
            if line.reason:
                whose.setdefault((FUNCTION_FIGURES[key][0], line.reason), []).append(function)
    return tuple(
        f"{head} of {', '.join(functions)} {UNSAID}: {reason}" for (head, reason), functions in whose.items()
    )


def groups(verdict: Verdict) -> list[tuple[str, list[Line]]]:
    """All other figures, by group in the order of GROUPS."""
    found: dict[str, list[Line]] = {group: [] for group in GROUPS}
    for name, note in _noted(verdict):
        if note.function is None:
            found.setdefault(note.group, []).append(_line(verdict.impact[name], note))
    return [(group, lines) for group, lines in found.items() if lines]


def worth_telling(lines: Sequence[Line]) -> list[Line]:
    """Where room is short: without those that are 0."""
    return [line for line in lines if not line.nothing]


def _noted(verdict: Verdict) -> list[tuple[str, FigureNote]]:
    return [(name, verdict.impact_notes.get(name) or _guessed(name)) for name in verdict.impact]


def _guessed(name: str) -> FigureNote:
    end = next((end for end in _UNIT_BY_END if name.endswith(end)), "")
    text = name.removesuffix(end).replace("_", " ")
    return FigureNote(title=text[:1].upper() + text[1:], unit=_UNIT_BY_END.get(end, "count"))


def _line(value: float | None, note: FigureNote) -> Line:
    if value is None:
        return Line(note.title, UNSAID, note.model, note.reason)
    return Line(note.title, figure(value, note.unit), note.model, nothing=value == 0)


def figure(value: float, unit: Unit) -> str:
    """``171250, minor`` -> ``1,712.50``; ``81.27, percent`` -> ``81.27 %``."""
    if unit == "minor":
        return f"{value / 100:,.2f}"
    if unit == "minor_s":
        return f"{value / 100:,.2f} × s"
    if unit == "percent":
        return words.number(value, "%", beside=100)
    return words.seconds(value) if unit == "s" else words.number(value)
