"""What clients ask of the till, and what they are answered: values, without any behaviour.

A request is known by its ``key``: the client's idempotency key, or its session and number. The answer to it
is stored under that key with the effect, and given again when the request comes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

ReportKind = Literal["update", "terminate"]


@dataclass(frozen=True)
class Debit:
    """Event charging: an amount at once, or not at all."""

    key: str
    fingerprint: str
    subscriber: int
    amount_minor: int


@dataclass(frozen=True)
class Initial:
    """A session opens and asks for units."""

    session_id: str
    fingerprint: str
    subscriber: int
    service: str
    requested_units: int

    @property
    def key(self) -> str:
        return session_key(self.session_id, 0)


@dataclass(frozen=True)
class Report:
    """Units that a session has used since its last report; an update asks for more, a terminate ends it."""

    kind: ReportKind
    session_id: str
    number: int
    fingerprint: str
    used_units: int
    requested_units: int = 0

    @property
    def key(self) -> str:
        return session_key(self.session_id, self.number)


Request: TypeAlias = Debit | Initial | Report


def session_key(session_id: str, number: int) -> str:
    """No client can have it as an idempotency key, for those are printable."""
    return f"{session_id}\n{number}"


def needs_admission(request: Request) -> bool:
    """Whether it would begin something that a lockdown refuses. What was used is taken in any mode."""
    return not isinstance(request, Report) or request.requested_units > 0


@dataclass(frozen=True)
class Reply:
    """The answer that is stored with the effect and given again for the same key."""

    fingerprint: str
    status: int
    body: dict[str, Any]
