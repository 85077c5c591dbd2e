"""Credit control sessions (RFC 8506): units are granted, reported, charged; what is not used is given back.

A report is taken in any mode and however late: its units are charged to what was reserved for them; then to
the bucket and the balance, as far as those go; what is left over then has leaked, and the session says so.
Requests of a session come with rising numbers; one that comes out of order is refused, with no effect.
"""

from __future__ import annotations

from typing import Any

from billing.charging.books import Books, CreditSession
from billing.charging.requests import Initial, Reply, Report
from billing.common import Problem, refused


def begin(books: Books, request: Initial, epoch: int, validity_s: float) -> Reply | Problem:
    """Open a session with what can be granted; 402 when that is nothing."""
    if request.session_id in books.sessions:
        return Problem(422, "session exists", f"session {request.session_id!r} was opened before")
    if (request.subscriber, request.service) not in books.buckets:
        return Problem(404, "no such subscriber", f"{request.subscriber} has no {request.service}")
    session = CreditSession(request.session_id, request.subscriber, request.service)
    granted = books.grant(session, 0, request.requested_units, epoch)
    if granted == 0:
        return Reply(request.fingerprint, 402, _nothing_left(request))
    books.touch(session)
    body = {"session_id": session.id, "granted_units": granted, "valid_s": validity_s}
    return Reply(request.fingerprint, 201, body)


def report(books: Books, request: Report, epoch: int | None, validity_s: float) -> Reply | Problem:
    """Take what was used. An update asks for more, which an open session gets if ``epoch`` admits it."""
    session = books.sessions.get(request.session_id)
    if session is None:
        return Problem(404, "no such session", request.session_id)
    if session.state == "closed":
        return Problem(410, "session ended", request.session_id)
    if request.number <= session.last_request:
        return Problem(422, "out of order", f"request {session.last_request} has been served before")
    session.last_request = request.number
    charged_before = session.charged_minor
    _take(books, session, request)
    granted = 0
    if request.kind == "terminate":
        session.state = "closed"
    elif session.state == "open" and epoch is not None and request.requested_units:
        granted = books.grant(session, request.number, request.requested_units, epoch)
    books.touch(session)
    body: dict[str, Any] = {"charged_minor": session.charged_minor - charged_before}
    if request.kind == "terminate":
        body["used_units"] = session.used_units
    else:
        body |= {"granted_units": granted, "valid_s": validity_s}
    return Reply(request.fingerprint, 200, body)


def expire(books: Books, session: CreditSession) -> None:
    """Its time is over: what was reserved is given back, and nothing more is granted to it."""
    books.end(session, 0, "expired")
    session.state = "expired"
    books.touch(session)


def locked_down() -> Problem:
    return refused("lockdown", "no money moves in a lockdown", retry_after_s=5)


def _take(books: Books, session: CreditSession, request: Report) -> None:
    session.used_units += request.used_units
    beyond = books.end(session, request.used_units)
    if not beyond:
        return
    # Used already: reserved and posted at once, without asking whether it may be.
    books.grant(session, request.number, beyond, None)
    session.leaked_units += books.end(session, beyond)
    bucket = books.buckets[session.subscriber, session.service]
    session.leaked_minor = bucket.price_minor(session.leaked_units)


def _nothing_left(request: Initial) -> dict[str, Any]:
    detail = f"subscriber {request.subscriber} has neither {request.service} units nor credit left"
    return {"type": "about:blank", "title": "over the limit", "status": 402, "detail": detail}
