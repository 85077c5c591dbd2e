"""The head of an invariant's SQL file: comment lines ``-- key: value`` before the query.

``id``, ``title`` and ``needs`` must be there; ``applies`` (kinds, faults or jobs, none: always), ``when``
(one SELECT of true or false over the evidence), ``impact`` (``figure where condition``) and ``property`` may.
A ``liveness`` invariant demands that something happens in time (the rest are ``safety``: nothing bad happens,
however slowly); on a machine that was too busy to tell, its violations say nothing. ``needs`` counts what
there is to check: without it an invariant that looked at nothing would seem to hold.

``when`` and ``needs`` are asked with the query's own ``with`` before them, so that what is judged need not be
written again to be counted. What of it they do not name costs nothing: DuckDB neither binds nor runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import TargetError
from harness.experiment.sql_head import head_of, names_in

MUST = ("id", "title", "needs")
KEYS = (*MUST, "applies", "when", "impact", "property")
PROPERTIES = ("safety", "liveness")
_EXAMPLE = "-- id: PAY1, -- title: ..., -- needs: select ..."
_ID = re.compile(r"[A-Z][A-Z0-9_-]{0,30}")
_TOKEN = re.compile(r"""(?P<skip>\s+|--[^\n]*|/\*.*?\*/)|'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|.""", re.S)
_GOES_ON = (",", "as", "using")  # after a closing bracket of a `with`; whatever else begins the query itself


@dataclass(frozen=True)
class InvariantHead:
    """A parsed head. ``impact``: a business figure, and the condition on violations that count for it.

    ``when``: asked of the evidence where ``applies`` alone cannot tell; false: it does not apply to this run.
    ``when`` and ``needs`` are whole: with what they take from the query.
    """

    id: str
    title: str
    needs: str
    applies: tuple[str, ...] = ()
    when: str = ""
    impact: tuple[str, str] | None = None
    liveness: bool = False


def read_head(text: str, file: str) -> InvariantHead:
    """The head of a file's text. TargetError names the file, the line and what is wrong."""
    head = head_of(text, file, KEYS, MUST, _EXAMPLE)
    if not _ID.fullmatch(head["id"]):
        raise TargetError(f"{file}: the id {head['id']!r} is not capital letters, digits, '-' and '_'")
    if (found := head.get("property", "safety")) not in PROPERTIES:
        raise TargetError(f"{file}: the property {found!r} is not one of {', '.join(PROPERTIES)}")
    common = with_of(text)
    figure, _, condition = head.get("impact", "").partition(" where ")
    return InvariantHead(
        id=head["id"],
        title=head["title"],
        needs=_whole(head["needs"], common),
        applies=names_in(head.get("applies", "")),
        when=_whole(head.get("when", ""), common),
        impact=(figure.strip(), condition.strip() or "true") if figure else None,
        liveness=found == "liveness",
    )


def with_of(query: str) -> str:
    """The ``with ...`` that a query begins with, up to where the query itself begins; empty: it has none."""
    tokens = [token for token in _TOKEN.finditer(query) if token["skip"] is None]
    if not tokens or tokens[0][0].lower() != "with":
        return ""
    depth = 0
    for token, following in pairwise(tokens):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if token[0] == ")" and depth == 0 and following[0].lower() not in _GOES_ON:
            return query[tokens[0].start() : following.start()]
    return ""


def _whole(asked: str, common: str) -> str:
    """A SELECT of the head with the query's ``with`` before it. One that begins with its own stands alone."""
    return asked if not asked or with_of(asked) else common + asked
