"""Events leave through the outbox: written with the effect, published afterwards, never forgotten.

The relay asks for the rows that are not marked sent, in the order of their ids, and starts from the
lowest again each time: a row that became visible late (ids are drawn before commits) is never skipped.
Publishing twice is harmless, by the message id and the consumers' inboxes. An event that reconciliation
asks for again goes out under a new message id: the broker would drop it as a copy of the one it lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from billing.common.bell import Bell
from billing.common.broker import BROKER_FAILURES, Broker
from billing.common.database import Database, Record, Session
from billing.common.log import Log
from billing.common.metrics import Metrics

BATCH = 200
CONCURRENT = 64
POLL_S = 0.5
# So long is waited for more events before some are sent. Each lot costs two statements here, and in each of
# the consumers a transaction, with its round trips and a commit on two disks.
GATHER_S = 0.05

_INSERT = "insert into outbox (event_id, subject, payload) values ($1, $2, $3::jsonb)"
_INSERT_ALL = """
insert into outbox (event_id, subject, payload)
select id, $1::text, payload::jsonb from unnest($2::uuid[], $3::text[]) e (id, payload)"""
_UNSENT = f"""
select id, event_id, subject, payload, resends from outbox where sent_at is null order by id limit {BATCH}"""
_MARK = "update outbox set sent_at = clock_timestamp() where id = any($1::bigint[])"


def event_json(event_id: UUID, payload: dict[str, Any]) -> str:
    """The event as it will be published: the payload with its ``event_id``."""
    return json.dumps({"event_id": str(event_id), **payload}, separators=(",", ":"))


class Outbox:
    """``add`` in the transaction of the effect; ``wake`` after a commit that added by SQL of its own."""

    def __init__(self) -> None:
        self._bell = Bell()

    async def add(
        self, session: Session, subject: str, payload: dict[str, Any], *, event_id: UUID | None = None
    ) -> UUID:
        """Store an event. Returns its id, which also stands in the payload as ``event_id``."""
        event_id = event_id or uuid4()
        await session.execute(_INSERT, event_id, subject, event_json(event_id, payload))
        session.after_commit(self.wake)
        return event_id

    async def add_all(
        self, session: Session, subject: str, payloads: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> None:
        """Store events of one subject, each with its id, in one statement."""
        ids = [event_id for event_id, _ in payloads]
        texts = [event_json(event_id, dict(payload)) for event_id, payload in payloads]
        await session.execute(_INSERT_ALL, subject, ids, texts)
        session.after_commit(self.wake)

    def wake(self) -> None:
        self._bell.ring()

    async def wait(self, timeout_s: float) -> None:
        """Until woken, and a moment longer; or until it is time to look anyway."""
        await self._bell.wait(timeout_s, GATHER_S)


class Relay:
    """Publishes what the outbox holds, for ever; ``run`` is a background task of the service."""

    def __init__(
        self, outbox: Outbox, database: Database, broker: Broker, metrics: Metrics, log: Log
    ) -> None:
        self._outbox = outbox
        self._database = database
        self._broker = broker
        self._metrics = metrics
        self._log = log
        self._places = asyncio.Semaphore(CONCURRENT)

    async def run(self) -> None:
        while True:
            await self._outbox.wait(POLL_S)
            await self._broker.jetstream()
            while await self.relay_batch() == BATCH:
                pass

    async def relay_batch(self) -> int:
        """Publish up to BATCH waiting events. Returns how many of them the broker confirmed."""
        waiting = await self._database.fetch(_UNSENT)
        if not waiting:
            return 0
        confirmed = await asyncio.gather(*(self._publish(row) for row in waiting))
        sent = [row["id"] for row, done in zip(waiting, confirmed, strict=True) if done]
        if sent:
            await self._database.execute(_MARK, sent)
            self._metrics.add("outbox.sent", len(sent))
        if len(sent) < len(waiting):
            self._log("relay.unconfirmed", count=len(waiting) - len(sent))
        return len(sent)

    async def _publish(self, row: Record) -> bool:
        message_id = str(row["event_id"]) + (f"/{row['resends']}" if row["resends"] else "")
        async with self._places:
            try:
                await self._broker.publish(
                    row["subject"], row["payload"].encode(), {"Nats-Msg-Id": message_id}
                )
            except BROKER_FAILURES:
                self._metrics.add("outbox.publish_failures")
                return False
            return True
