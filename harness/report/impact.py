"""The business impact for people: a table of the functions, and the other figures by group.

Every format shows the same: money with two decimals, what is a model marked as one, and what cannot be
said with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.check.figures import NULL
from harness.check.impact import FUNCTION_FIGURES
from harness.check.verdict import FigureNote, Verdict
from harness.experiment.figure_head import GROUPS, Unit
from harness.report import words

UNSAID = "cannot be said"
WHOLE = 100.0  # percent
MONEY = "_minor"
# Of figures that an older verdict has no notes on: by the end of the name, the longer ends first.
_UNIT_BY_END: Mapping[str, Unit] = {
    "_minor_s": "minor_s",
    "_minor": "minor",
    "_percent": "percent",
    "_s": "s",
}


@dataclass(frozen=True)
class Line:
    """One figure. ``reason``: why it cannot be said.

    ``nothing``: it is 0, or there was nothing that it could be counted from, so nothing happened.
    """

    title: str
    text: str
    model: bool = False
    reason: str = ""
    nothing: bool = False


@dataclass(frozen=True)
class FunctionTable:
    """``heads`` stand over the figures. A row is a function with a figure, or None, for each; worst first.

    ``unsaid``: one sentence for each reason for which some of them cannot be said. ``untouched``: functions
    that were asked for something, and served it all in time.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Line | None, ...]], ...]
    unsaid: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()


def function_table(verdict: Verdict, *, brief: bool = False) -> FunctionTable:
    """What is counted for each function to which something happened; without columns that none of them has.

    ``brief``: also without columns in which all of them have 0; money stands under the number of operations
    that it belongs to, as the second line of one figure.
    """
    all_lines, worst_first = _by_function(verdict)
    untouched = [name for name in worst_first if _untouched(verdict, name)]
    found = {name: all_lines[name] for name in worst_first if name not in untouched}
    if brief:
        found = {name: _paired(lines) for name, lines in found.items()}
    used = {key for lines in found.values() for key, line in lines.items() if not (brief and line.nothing)}
    keys = [key for key in FUNCTION_FIGURES if key in used]
    rows = tuple((name, tuple(lines.get(key) for key in keys)) for name, lines in found.items())
    heads = tuple(FUNCTION_FIGURES[key][0] + _also_money(key, found) for key in keys)
    return FunctionTable(heads, rows, _unsaid(found), tuple(sorted(untouched)))


def _also_money(key: str, found: Mapping[str, Mapping[str, Line]]) -> str:
    return "\nvalue" if any(key in lines and "\n" in lines[key].text for lines in found.values()) else ""


def _by_function(verdict: Verdict) -> tuple[dict[str, dict[str, Line]], list[str]]:
    """The figures of each function; and the functions, the least available first."""
    found: dict[str, dict[str, Line]] = {}
    for name, note in _noted(verdict):
        if note.function is not None:
            key = name.removeprefix(f"{note.function}_")
            found.setdefault(note.function, {})[key] = _line(verdict.impact[name], note)

    def served(name: str) -> tuple[float, str]:
        availability = verdict.impact.get(f"{name}_availability_percent")
        return (WHOLE if availability is None else availability, name)

    return found, sorted(found, key=served)


def _untouched(verdict: Verdict, function: str) -> bool:
    """What cannot be said may have happened; but that an outage cannot be told where nothing failed."""
    values = {
        key: verdict.impact[name]
        for key in FUNCTION_FIGURES
        if (name := f"{function}_{key}") in verdict.impact
    }
    availability = values.pop("availability_percent", None)
    outage = values.pop("outage_s", 0)
    return availability == WHOLE and not outage and all(value == 0 for value in values.values())


def _paired(lines: Mapping[str, Line]) -> dict[str, Line]:
    """With the value of what failed, is unknown or came late under how many that were."""
    paired = {key: line for key, line in lines.items() if not key.endswith(MONEY)}
    for key, line in paired.items():
        money = lines.get(f"{key}{MONEY}")
        if money is not None and not money.nothing:
            paired[key] = replace(line, text=f"{line.text}\n{money.text}", nothing=False)
    return paired


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
    """Where room is short: without those in which nothing happened."""
    return [line for line in lines if not line.nothing]


def _noted(verdict: Verdict) -> list[tuple[str, FigureNote]]:
    return [(name, verdict.impact_notes.get(name) or _guessed(name)) for name in verdict.impact]


def _guessed(name: str) -> FigureNote:
    end = next((end for end in _UNIT_BY_END if name.endswith(end)), "")
    text = name.removesuffix(end).replace("_", " ")
    return FigureNote(title=text[:1].upper() + text[1:], unit=_UNIT_BY_END.get(end, "count"))


def _line(value: float | None, note: FigureNote) -> Line:
    if value is None:
        return Line(note.title, UNSAID, note.model, note.reason, nothing=note.reason == NULL)
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
