"""The head of a business figure's SQL file: comment lines ``-- key: value`` before the query.

``id``, ``title`` and ``unit`` must be there. ``applies`` (kinds, faults or jobs, none: always), ``group``
(under which reports show it) and ``model`` may: ``model: yes`` marks what rests on assumptions about
people, such as who will leave, and was not measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from harness.errors import TargetError
from harness.experiment.names import suggestion
from harness.experiment.sql_head import head_of, names_in

Unit = Literal["minor", "count", "percent", "s", "minor_s", "score"]
"""``minor``: money in minor units; ``minor_s``: money x the seconds that it was late."""

GROUPS = ("payments", "usage and charging", "settlement", "books", "customers", "other")
MUST = ("id", "title", "unit")
KEYS = (*MUST, "applies", "group", "model")
_ID = re.compile(r"[a-z][a-z0-9_]{0,60}")
_EXAMPLE = "-- id: leakage_minor, -- title: ..., -- unit: minor"


@dataclass(frozen=True)
class FigureHead:
    """A parsed head."""

    id: str
    title: str
    unit: Unit
    applies: tuple[str, ...] = ()
    group: str = GROUPS[-1]
    model: bool = False


def read_figure_head(text: str, file: str) -> FigureHead:
    """The head of a file's text. TargetError names the file and what is wrong."""
    head = head_of(text, file, KEYS, MUST, _EXAMPLE)
    if not _ID.fullmatch(head["id"]):
        raise TargetError(f"{file}: the id {head['id']!r} is not small letters, digits and '_'")
    units: dict[str, Unit] = {unit: unit for unit in get_args(Unit)}
    if head["unit"] not in units:
        raise TargetError(f"{file}: the unit {head['unit']!r} is none", hint=suggestion(head["unit"], units))
    group = head.get("group") or GROUPS[-1]
    if group not in GROUPS:
        raise TargetError(f"{file}: no group is called {group!r}", hint=suggestion(group, GROUPS))
    if (model := head.get("model", "no")) not in ("yes", "no"):
        raise TargetError(f"{file}: model is yes or no, not {model!r}")
    return FigureHead(
        id=head["id"],
        title=head["title"],
        unit=units[head["unit"]],
        applies=names_in(head.get("applies", "")),
        group=group,
        model=model == "yes",
    )
