"""The head of an invariant's SQL file: comment lines ``-- key: value`` before the query.

``id``, ``title`` and ``needs`` must be there; ``applies`` (kinds, faults or jobs, none: always) and
``impact`` (``figure where condition``) and ``property`` may. A ``liveness`` invariant demands that
something happens in time (the rest are ``safety``: nothing bad happens, however slowly); on a machine
that was too busy to tell, its violations say nothing. ``needs`` counts what there is to check: without it an
invariant that looked at nothing would seem to hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import TargetError

MUST = ("id", "title", "needs")
KEYS = (*MUST, "applies", "impact", "property")
PROPERTIES = ("safety", "liveness")
_ID = re.compile(r"[A-Z][A-Z0-9_-]{0,30}")


@dataclass(frozen=True)
class InvariantHead:
    """A parsed head. ``impact``: a business figure, and the condition on violations that count for it."""

    id: str
    title: str
    needs: str
    applies: tuple[str, ...] = ()
    impact: tuple[str, str] | None = None
    liveness: bool = False


def read_head(text: str, file: str) -> InvariantHead:
    """The head of a file's text. TargetError names the file, the line and what is wrong."""
    head: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--"):
            break
        key, colon, value = line[2:].strip().partition(":")
        if colon and key in KEYS:
            if key in head:
                raise TargetError(f"{file}:{number}:1: the head says {key!r} twice")
            head[key] = value.strip()
    missing = [key for key in MUST if not head.get(key)]
    if missing:
        raise TargetError(
            f"{file}:1:1: the head lacks {' and '.join(missing)}",
            hint="the first lines are comments: -- id: PAY1, -- title: ..., -- needs: select ...",
        )
    if not _ID.fullmatch(head["id"]):
        raise TargetError(f"{file}: the id {head['id']!r} is not capital letters, digits, '-' and '_'")
    if (found := head.get("property", "safety")) not in PROPERTIES:
        raise TargetError(f"{file}: the property {found!r} is not one of {', '.join(PROPERTIES)}")
    figure, _, condition = head.get("impact", "").partition(" where ")
    return InvariantHead(
        id=head["id"],
        title=head["title"],
        needs=head["needs"],
        applies=tuple(head.get("applies", "").replace(",", " ").split()),
        impact=(figure.strip(), condition.strip() or "true") if figure else None,
        liveness=found == "liveness",
    )
