"""The heads of a target's ``invariants/*.sql``: what validation and listing need of them."""

from __future__ import annotations

from pathlib import Path

from harness.errors import TargetError
from harness.experiment.invariant_head import read_head
from harness.experiment.target import Invariant

_LONGEST = 64 * 1024


def read_invariants(folder: Path) -> dict[str, Invariant]:
    """All invariants of a target folder by id. Raises TargetError with the file's name."""
    found: dict[str, Invariant] = {}
    for path in sorted((folder / "invariants").glob("*.sql")):
        invariant = _read(path, folder)
        if invariant.id in found:
            raise TargetError(f"{path}: the id {invariant.id!r} is that of {found[invariant.id].file} too")
        found[invariant.id] = invariant
    return found


def _read(path: Path, folder: Path) -> Invariant:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise TargetError(f"{path}: cannot be read: {problem}") from problem
    if len(text) > _LONGEST:
        raise TargetError(f"{path}: {len(text):,} characters; at most {_LONGEST:,} are read")
    head = read_head(text, str(path))
    return Invariant(
        id=head.id, title=head.title, applies=head.applies, file=path.relative_to(folder).as_posix()
    )
