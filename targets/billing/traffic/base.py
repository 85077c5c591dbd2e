"""What all traffic is sent with: the key, the time of an event, what is remembered between operations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.load.workload import Answer, Op, Workload


def started_at(op: Op, *, earlier: timedelta = timedelta(0)) -> str:
    """When the operation was due, or so much earlier, as RFC 3339."""
    due = datetime.fromtimestamp(op.intended_ns / 1e9, UTC)
    return (due - earlier).isoformat(timespec="milliseconds")


class Traffic(Workload):
    """Base of the kinds of traffic; ``BillingWorkload`` is made of all of them."""

    abstract = True

    def send(
        self,
        op: Op,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        pending: tuple[int, ...] = (),
        *,
        text: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A request under the operation's key; what its answer says of a retry is recorded.

        ``text`` is a body as it is, in place of JSON.
        """
        all_headers = {**({"Idempotency-Key": op.key} if body is not None else {}), **(headers or {})}
        answer = op.request(method, path, json=body, text=text, headers=all_headers, pending=pending)
        if answer.retry_after is not None:
            op.set_detail({"retry_after": answer.retry_after})
        return answer
