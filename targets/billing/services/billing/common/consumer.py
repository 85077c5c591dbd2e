"""Durable consumers: the inbox row and the effect in one transaction, then the acknowledgement.

A batch of events is one transaction. When a batch fails because of the data, its events are tried one
by one, so that one bad event stops nobody else; a bad one is given back with growing delay and parked in
``dead_letter`` after ``MAX_ATTEMPTS``. Failures of the database or the broker are no attempts: the events
wait until it is back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from billing.common.broker import BROKER_FAILURES, STREAM, Broker
from billing.common.database import Database, Record, Session, after_a_write, is_infrastructure
from billing.common.log import Log, describe
from billing.common.metrics import Metrics

MAX_ATTEMPTS = 8
ACK_WAIT_S = 6.0  # so long may a crash delay what was in hand
PULL_EXPIRES_S = 5.0
ERROR_PAUSE_S = 0.5
# For ``gather_s``, where nobody waits for the effect: a transaction costs its round trips and a commit on
# two disks, however few events it serves.
UNHURRIED_S = 0.25

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """An event as published. ``payload`` has ``event_id`` in it too."""

    id: UUID
    subject: str
    payload: dict[str, Any]


class MalformedEvent(Exception):
    """A message that is no event: no JSON object, or without a usable ``event_id``."""


# Applies new events, in the transaction of the session. Must touch nothing else.
Handler = Callable[[Session, Sequence[Event]], Awaitable[None]]

_INBOX = """
insert into inbox (event_id, consumer, subject)
select e.id, $1, e.subject from unnest($2::uuid[], $3::text[]) e (id, subject) order by e.id
on conflict do nothing returning event_id"""

_PARK = """
insert into dead_letter (event_id, consumer, subject, payload, attempts, error)
values ($1, $2, $3, $4::jsonb, $5, $6)
on conflict (consumer, event_id) do update
set attempts = excluded.attempts, error = excluded.error, replayed_at = null"""

_PARKED = """
select event_id, subject, payload from dead_letter
where consumer = $1 and replayed_at is null order by parked_at limit 1000"""

_REPLAYED = """
update dead_letter set replayed_at = clock_timestamp() where consumer = $1 and event_id = $2"""


def event_of(subject: str, data: bytes) -> Event:
    """Read a message. Raises MalformedEvent."""
    try:
        payload = json.loads(data)
        return Event(UUID(payload["event_id"]), subject, payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedEvent(describe(error)) from error


async def unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of ``work``, or None when the service stops first."""
    working = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stop.cancel()


class Consumer:
    """Feeds a handler with the events of some subjects. ``name`` is the durable's and the inbox's."""

    def __init__(
        self,
        name: str,
        subjects: Sequence[str],
        handle: Handler,
        *,
        database: Database,
        broker: Broker,
        metrics: Metrics,
        log: Log,
        batch: int = 64,
        gather_s: float = 0.0,
    ) -> None:
        """``gather_s``: so long may events wait for more, that one transaction serves them all; while there
        are full batches they do not.
        """
        self.name = name
        self._subjects = tuple(subjects)
        self._handle = handle
        self._database = database
        self._broker = broker
        self._metrics = metrics
        self._log = log
        self._batch = batch
        self._gather_s = gather_s
        self._failures: Counter[int] = Counter()  # per stream sequence, in this incarnation
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take nothing new; ``run`` returns after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                # The broker may be away for longer than a drain lasts.
                pull = await unless(self._stopping, self._open())
                if pull is None:
                    return
                try:
                    while not self._stopping.is_set():
                        messages = await pull.next(self._batch, self._stopping)
                        if messages:
                            await self.work(messages)
                        if self._gather_s and len(messages) < self._batch:
                            await unless(self._stopping, asyncio.sleep(self._gather_s))
                finally:
                    await pull.close()
            except BROKER_FAILURES as error:
                self._log("consumer.interrupted", consumer=self.name, error=error)
                await asyncio.sleep(ERROR_PAUSE_S)

    async def _open(self) -> Pull:
        """Create the durable consumer where it is missing: its state at the broker is not ours to trust."""
        jetstream = await self._broker.jetstream()
        await jetstream.add_consumer(
            STREAM,
            ConsumerConfig(
                name=self.name,
                durable_name=self.name,
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=-1,
                max_ack_pending=1000,
                filter_subjects=list(self._subjects),
            ),
        )
        return await Pull.open(self._broker, self.name)

    async def work(self, messages: Sequence[Msg]) -> None:
        """Process messages and settle each one with the broker: acknowledged, given back, or parked."""
        events: dict[UUID, Event] = {}
        sound: list[Msg] = []
        for message in messages:
            try:
                event = event_of(message.subject, message.data)
            except MalformedEvent as error:
                await self._failed(message, error)
            else:
                events[event.id] = event
                sound.append(message)
        if not sound:
            return
        try:
            await self.apply(list(events.values()))
        except Exception as error:
            if is_infrastructure(error):
                await self._wait_out(sound, error)
            elif len(sound) == 1:
                await self._failed(sound[0], error)
            else:
                for message in sound:
                    await self.work([message])
        else:
            for message in sound:
                await self._done(message)

    async def apply(self, events: Sequence[Event]) -> None:
        """The inbox and the effect, in one transaction; an event seen before has no second effect."""

        async def effect(session: Session) -> None:
            new = await session.fetch(
                _INBOX, self.name, [event.id for event in events], [event.subject for event in events]
            )
            fresh = {row["event_id"] for row in new}
            if fresh:
                await self._handle(session, [event for event in events if event.id in fresh])

        await self._database.run(effect)
        self._metrics.add(f"consumer.{self.name}.applied", len(events))

    async def replay_parked(self) -> dict[str, int]:
        """Try the parked events once more; those that fail again stay parked."""
        parked = await self._database.fetch(_PARKED, self.name)
        with after_a_write():
            done = [await self._replay(row) for row in parked]
        return {"replayed": sum(done), "failed": len(done) - sum(done)}

    async def _replay(self, row: Record) -> bool:
        try:
            await self.apply([event_of(row["subject"], row["payload"].encode())])
        except Exception as error:
            if is_infrastructure(error):
                raise
            self._log("dead_letter.failed_again", event_id=row["event_id"], error=error)
            return False
        await self._database.execute(_REPLAYED, self.name, row["event_id"], attempts=2)
        return True

    async def _done(self, message: Msg) -> None:
        await message.ack()
        if self._failures:
            self._failures.pop(message.metadata.sequence.stream, None)

    async def _failed(self, message: Msg, error: Exception) -> None:
        """One attempt is gone; the last one parks the event."""
        sequence = message.metadata.sequence.stream
        self._failures[sequence] += 1
        attempts = self._failures[sequence]
        self._metrics.add(f"consumer.{self.name}.failed_attempts")
        if attempts < MAX_ATTEMPTS:
            await message.nak(delay=min(2.0, 0.1 * 2**attempts))
            return
        try:
            await self._park(message, attempts, error)
        except Exception as failure:
            await self._wait_out([message], failure)
        else:
            await self._done(message)

    async def _park(self, message: Msg, attempts: int, error: Exception) -> None:
        try:
            event = event_of(message.subject, message.data)
            event_id, payload = event.id, json.dumps(event.payload)
        except MalformedEvent:
            name = f"{STREAM}/{message.metadata.sequence.stream}"
            event_id, payload = uuid5(NAMESPACE_OID, name), json.dumps({"malformed": repr(message.data)})
        # A NUL is legal in JSON and has no place in PostgreSQL.
        payload = payload.replace("\\u0000", "\\ufffd")
        await self._database.execute(
            _PARK, event_id, self.name, message.subject, payload, attempts, describe(error), attempts=2
        )
        self._metrics.add(f"consumer.{self.name}.parked")
        self._log("event.parked", consumer=self.name, event_id=event_id, subject=message.subject, error=error)

    async def _wait_out(self, messages: Sequence[Msg], error: Exception) -> None:
        """Not the events' fault: give them back and take a breath. This burns no attempt."""
        self._metrics.add(f"consumer.{self.name}.interruptions")
        self._log("consumer.waiting", consumer=self.name, error=error)
        for message in messages:
            await message.nak(delay=ERROR_PAUSE_S)
        await asyncio.sleep(ERROR_PAUSE_S)


class Pull:
    """Pull requests on one durable consumer, one outstanding at a time, without added delay."""

    def __init__(self, client: Client, consumer: str, inbox: Subscription) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
        self._inbox = inbox
        self._owed = 0

    @classmethod
    async def open(cls, broker: Broker, consumer: str) -> Pull:
        client = await broker.client()
        return cls(client, consumer, await client.subscribe(client.new_inbox()))

    async def next(self, batch: int, stopping: asyncio.Event) -> list[Msg]:
        """Whatever is there now, at most ``batch``; empty when nothing came or the service stops.

        Raises BROKER_FAILURES when the broker no longer answers.
        """
        if self._owed <= 0:
            await self._request(batch)
        first = await self._first(stopping)
        messages: list[Msg] = []
        while first is not None:
            if self._is_event(first):
                messages.append(first)
            if len(messages) == batch or self._inbox.pending_msgs == 0:
                break
            first = await self._inbox.next_msg(timeout=0.1)
        return messages

    async def close(self) -> None:
        """Ask for nothing more, and give back what has come and was not taken."""
        try:
            await self._inbox.unsubscribe()
            while self._inbox.pending_msgs:
                message = await self._inbox.next_msg(timeout=0.1)
                if not (message.headers or {}).get("Status"):
                    await message.nak()
        except BROKER_FAILURES:
            # Then the broker gives it to the next reader by itself, after ACK_WAIT_S.
            pass

    async def _request(self, batch: int) -> None:
        ask = {"batch": batch, "expires": int(PULL_EXPIRES_S * 1e9)}
        # By the client that listens to the inbox: the answers to a later one would reach nobody.
        await self._client.publish(self._subject, json.dumps(ask).encode(), reply=self._inbox.subject)
        self._owed = batch

    async def _first(self, stopping: asyncio.Event) -> Msg | None:
        return await unless(stopping, self._inbox.next_msg(timeout=PULL_EXPIRES_S + 1.0))

    def _is_event(self, message: Msg) -> bool:
        """Events have no status header; a status ends the request, an unexpected one the subscription."""
        status = (message.headers or {}).get("Status")
        if status is None:
            self._owed -= 1
            return True
        self._owed = 0
        if status not in ("404", "408"):
            raise nats.errors.Error(f"the broker ended a pull with {status}")
        return False
