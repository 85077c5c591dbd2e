"""What all traffic is sent with: the key, the time of an event, what is remembered between operations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from harness.load.workload import Answer, Op, Workload


def started_at(op: Op) -> str:
    """When the operation was due, as RFC 3339."""
    return datetime.fromtimestamp(op.intended_ns / 1e9, UTC).isoformat(timespec="milliseconds")


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
    ) -> Answer:
        """A request under the operation's key; what its answer says of a retry is recorded."""
        headers = {"Idempotency-Key": op.key} if body else None
        answer = op.request(method, path, json=body, headers=headers, pending=pending)
        if answer.retry_after is not None:
            op.set_detail({"retry_after": answer.retry_after})
        return answer
