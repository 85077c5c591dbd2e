"""The heads of a target's ``invariants/*.sql``: what validation and listing need of them."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import TargetError
from harness.experiment.target import Invariant

_ID = re.compile(r"[A-Z][A-Z0-9_-]{0,30}")
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
    head: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        key, colon, value = line[2:].strip().partition(":")
        if colon:
            head.setdefault(key, value.strip())
    missing = [key for key in ("id", "title") if not head.get(key)]
    if missing:
        raise TargetError(
            f"{path}:1:1: the head lacks {' and '.join(missing)}",
            hint="the first lines are comments: -- id: PAY1, -- title: ..., -- applies: ..., -- needs: ...",
        )
    if not _ID.fullmatch(head["id"]):
        raise TargetError(f"{path}: the id {head['id']!r} is not capital letters, digits, '-' and '_'")
    return Invariant(
        id=head["id"],
        title=head["title"],
        applies=tuple(head.get("applies", "").replace(",", " ").split()),
        file=path.relative_to(folder).as_posix(),
    )
