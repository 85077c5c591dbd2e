"""The head of a target's SQL file: comment lines ``-- key: value`` before the query.

A line whose key is none of those known is a comment like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.errors import TargetError


def head_of(text: str, file: str, keys: Collection[str], must: Sequence[str], example: str) -> dict[str, str]:
    """What the head says, by key. TargetError names the file, the line and what is missing.

    ``must``: the keys that every head has; ``example``: what they look like, for the hint.
    """
    head: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--"):
            break
        key, colon, value = line[2:].strip().partition(":")
        if colon and key in keys:
            if key in head:
                raise TargetError(f"{file}:{number}:1: the head says {key!r} twice")
            head[key] = value.strip()
    missing = [key for key in must if not head.get(key)]
    if missing:
        raise TargetError(
            f"{file}:1:1: the head lacks {' and '.join(missing)}",
            hint=f"the first lines are comments: {example}",
        )
    return head


def names_in(value: str) -> tuple[str, ...]:
    """Names, separated by spaces or commas."""
    return tuple(value.replace(",", " ").split())
