"""The heads of a target's SQL files, ``invariants/*.sql`` and ``figures/*.sql``: what validation and listing
need of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.errors import TargetError
from harness.experiment.figure_head import read_figure_head
from harness.experiment.invariant_head import read_head
from harness.experiment.target import Figure, Invariant

_LONGEST = 64 * 1024
H = TypeVar("H", Invariant, Figure)


def read_invariants(folder: Path) -> dict[str, Invariant]:
    """All invariants of a target folder by id. Raises TargetError with the file's name."""
    return _read_all(folder, "invariants", _invariant)


def read_figures(folder: Path) -> dict[str, Figure]:
    """All business figures of a target folder by id. Raises TargetError with the file's name."""
    return _read_all(folder, "figures", _figure)


def _read_all(folder: Path, below: str, read: Callable[[str, str, str], H]) -> dict[str, H]:
    """``read``: text, path for messages, path within the folder -> head."""
    found: dict[str, H] = {}
    for path in sorted((folder / below).glob("*.sql")):
        head = read(_text(path), str(path), path.relative_to(folder).as_posix())
        if head.id in found:
            raise TargetError(f"{path}: the id {head.id!r} is that of {found[head.id].file} too")
        found[head.id] = head
    return found


def _invariant(text: str, path: str, file: str) -> Invariant:
    head = read_head(text, path)
    return Invariant(id=head.id, title=head.title, applies=head.applies, file=file)


def _figure(text: str, path: str, file: str) -> Figure:
    head = read_figure_head(text, path)
    return Figure(
        id=head.id,
        title=head.title,
        unit=head.unit,
        group=head.group,
        model=head.model,
        applies=head.applies,
        file=file,
    )


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise TargetError(f"{path}: cannot be read: {problem}") from problem
    if len(text) > _LONGEST:
        raise TargetError(f"{path}: {len(text):,} characters; at most {_LONGEST:,} are read")
    return text
