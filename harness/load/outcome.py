"""How attempts are judged: the written table from an HTTP answer to ok, fail or unknown.

``fail`` means that the target refused before any effect was possible. Whatever does not say so
clearly is unknown, a refused connection too: the table is about what the target promises, and one
that is not there promises nothing.

| answer | attempt |
|---|---|
| 2xx | ok; unknown when the operation said that this status is pending |
| 408, 409, 425, 429 | unknown |
| other 4xx | fail |
| 503 with a valid Retry-After | fail |
| anything else; timeout, reset, refused, half an answer | unknown |
| 2xx whose body the locustfile cannot read | the operation is unknown |
| none: load ended before a user was free for it | unknown, 0 attempts, never invoked |

The last one had no effect for certain, yet it is no fail: the target has not refused it, it kept all
users waiting, and latencies count what is unknown but not what was refused.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from harness.evidence.model import Outcome

INDEFINITE_4XX = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one attempt. ``status`` None: no whole answer came."""

    status: int | None
    outcome: Outcome
    body: bytes = b""
    retry_after: str | None = None
    error: str | None = None
    pending: bool = False

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ValueError when it is none."""
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError(f"the answer is not a JSON object: {self.body[:80]!r}")
        return value


def judge(status: int, body: bytes, retry_after: str | None, pending: Container[int] = ()) -> Answer:
    """Judge a whole answer by the table."""
    if 200 <= status < 300:
        waits = status in pending
        return Answer(status, "unknown" if waits else "ok", body, retry_after, None, waits)
    refused = 400 <= status < 500 and status not in INDEFINITE_4XX
    if status == 503:
        refused = retry_after is not None and is_retry_after(retry_after)
    return Answer(status, "fail" if refused else "unknown", body, retry_after, f"status {status}")


def no_answer(error: str) -> Answer:
    """An attempt without a whole answer."""
    return Answer(None, "unknown", error=error)


def is_retry_after(value: str) -> bool:
    """Whole seconds or an HTTP date (RFC 9110, 10.2.3)."""
    if value.isascii() and value.isdigit():
        return True
    try:
        parsedate_to_datetime(value)
    except ValueError:
        return False
    return True


def over_attempts(outcomes: Iterable[Outcome]) -> Outcome:
    """The operation's outcome: ok when any attempt is; fail only when every one was; else unknown."""
    seen = set(outcomes)
    if "ok" in seen:
        return "ok"
    return "fail" if seen == {"fail"} else "unknown"


def may_retry(answer: Answer) -> bool:
    """Only what is not known is tried again; a pending answer is known to be under way."""
    return answer.outcome == "unknown" and not answer.pending
