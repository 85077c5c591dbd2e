"""Names people mistype: the nearest right spelling, and one sentence that says so."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_SHOWN = 12


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when none is like it."""
    by_lower = {choice.lower(): choice for choice in known}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.55)
    return by_lower[near[0]] if near else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``did you mean 'crash'? known: ...``: a hint for a name that does not exist."""
    choices = sorted(known)
    if not choices:
        return "there are none"
    shown = ", ".join(choices[:_MOST_SHOWN]) + (", ..." if len(choices) > _MOST_SHOWN else "")
    near = nearest(name, choices)
    return f"did you mean {near!r}? known: {shown}" if near else f"known: {shown}"


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """``unknown service 'paiments': did you mean 'payments'? known: ...``, for a ValueError."""
    return f"unknown {what} {name!r}: {suggestion(str(name), known)}"
