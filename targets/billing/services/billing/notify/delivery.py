"""Delivers notices through the gateway: bounded concurrency, back-off, and quick to catch up.

While the gateway does not answer, one notice at a time probes it; with its first answer the full
batches go out again. A notice whose delivery is in doubt goes out again under the same message id.
A gateway that refuses a notice REFUSALS times has it parked, out of the way of the others. What is urgent
goes first: a campaign waits for every payment's notice that is due. Whoever waits for the delivery of
a notice (REPORTED) is told by an event, in the transaction that records it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid5

from billing.common import (
    Bell,
    CallFailed,
    Database,
    HttpClient,
    Log,
    Metrics,
    Outbox,
    Record,
    Session,
    backoff_s,
)
from billing.notify.message import REPORTED

BATCH = 64  # sent at once
REFUSALS = 8
POLL_S = 0.5
PROBE_CAP_S = 2.0
RETRY_CAP_S = 5.0

Outcome = Literal["delivered", "refused", "silence"]

_DUE = """
select id, event_id, recipient, template, body, attempts from notification
where delivered_at is null and next_attempt_at <= clock_timestamp()
order by urgency, next_attempt_at limit $1"""

_RECORD = f"""
update notification n set
  attempts = attempts + 1,
  delivered_at = case when r.outcome = 'delivered' then clock_timestamp() end,
  refusals = refusals + (r.outcome = 'refused')::int,
  next_attempt_at = case when r.outcome = 'refused' and refusals + 1 >= {REFUSALS} then 'infinity'
                         else clock_timestamp() + make_interval(secs => r.delay_s) end
from unnest($1::uuid[], $2::text[], $3::float8[]) r (id, outcome, delay_s)
where n.id = r.id and n.delivered_at is null
returning n.id, n.event_id, n.recipient, n.template, n.delivered_at is not null as delivered,
          n.next_attempt_at = 'infinity' as parked"""

_UNPARK = """
update notification set refusals = 0, next_attempt_at = clock_timestamp()
where delivered_at is null and next_attempt_at = 'infinity' returning id"""


class Delivery:
    """``run`` delivers for ever; ``wake`` tells it that there is a new notice."""

    def __init__(
        self, database: Database, gateway: HttpClient, outbox: Outbox, metrics: Metrics, log: Log
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._gateway = gateway
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._silences = 0  # batches in a row without any answer

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            if not await self.deliver_batch():
                await self._bell.wait(POLL_S)  # or until the back-off of some notice may be over
            elif self._silences:
                await asyncio.sleep(backoff_s(self._silences, cap_s=PROBE_CAP_S))

    async def deliver_batch(self) -> int:
        """Send what is due, once, and record what came of it; returns how many there were."""
        due = await self._database.fetch(_DUE, 1 if self._silences else BATCH, attempts=2)
        if not due:
            return 0
        outcomes = await asyncio.gather(*(self._send(notice) for notice in due))
        self._silences = self._silences + 1 if set(outcomes) == {"silence"} else 0
        delays = [backoff_s(notice["attempts"] + 1, base_s=0.2, cap_s=RETRY_CAP_S) for notice in due]
        recorded = await self._database.run(
            partial(self._record, [notice["id"] for notice in due], outcomes, delays)
        )
        for outcome in outcomes:
            self._metrics.add(f"notices.{outcome}")
        for row in recorded:
            if row["parked"]:
                self._metrics.add("notices.parked")
                self._log("notice.parked", id=row["id"])
        return len(due)

    async def _record(
        self, ids: Sequence[UUID], outcomes: Sequence[Outcome], delays: Sequence[float], session: Session
    ) -> Sequence[Record]:
        """What came of a batch, and the events for those who wait for it."""
        rows = await session.fetch(_RECORD, ids, outcomes, delays)
        reports = [
            (uuid5(row["id"], "delivered"), report_of(row))
            for row in rows
            if row["delivered"] and row["template"] in REPORTED
        ]
        if reports:
            await self._outbox.add_all(session, "notice.delivered", reports)
        return rows

    async def _send(self, notice: Record) -> Outcome:
        message = {
            "message_id": str(notice["id"]),
            "event_id": str(notice["event_id"]),
            **{name: notice[name] for name in ("recipient", "template", "body")},
        }
        try:
            answer = await self._gateway.call("POST", "/messages", body=message)
        except CallFailed:
            return "silence"
        if answer.status < 300:
            return "delivered"
        # 408, 425 and 429 are the gateway's own trouble, as every 5xx is.
        refused = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)
        return "refused" if refused else "silence"

    async def unpark(self) -> int:
        """Put the parked notices back in line; returns how many."""
        rows = await self._database.fetch(_UNPARK)
        self.wake()
        return len(rows)


def report_of(row: Record) -> dict[str, Any]:
    """The event ``notice.delivered``; ``source_event_id`` is what was told."""
    return {
        "source_event_id": str(row["event_id"]),
        "recipient": row["recipient"],
        "template": row["template"],
    }
