"""The till: where all that clients spend is decided, in batches.

Requests that come while a transaction runs wait for the next one, which takes all of them: one commit serves
many, and a slow database makes batches larger. Debits and sessions share the batches.

In a lockdown the database's gate ends the transaction. The batch is then done once more without asking: what
needs admission is refused, the rest (stored answers, reports of use) is served.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from billing.charging import credit, sessions
from billing.charging.books import Books, open_books, save, subscribers_of
from billing.charging.requests import Debit, Initial, Reply, Report, Request, needs_admission
from billing.common import (
    Database,
    Metrics,
    Outbox,
    Problem,
    Session,
    Unavailable,
    admit,
    is_lockdown,
    key_reused,
)

BATCH = 100
PATIENCE_S = 3.0  # a request that waited longer is refused before anything is done for it

Replies: TypeAlias = Mapping[str, Reply | Problem]


@dataclass(frozen=True)
class Waiting:
    """A request whose client waits; ``since`` by the monotonic clock."""

    request: Request
    reply: asyncio.Future[Reply]
    since: float


_STORED = "select key, fingerprint, status, body from idempotency_key where key = any($1::text[])"

_STORE = """
insert into idempotency_key (key, fingerprint, status, body)
select * from unnest($1::text[], $2::text[], $3::int[], $4::jsonb[])"""


class Till:
    """Collects requests into batches; ``run`` is a background task of the service.

    ``validity_s``: so long is a grant good.
    """

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics, validity_s: float) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._validity_s = validity_s
        self._waiting: list[Waiting] = []
        self._work = asyncio.Event()

    async def serve(self, request: Request) -> Reply:
        """The answer to a request, once it is committed. Raises Problem, or what broke the transaction."""
        waiting = Waiting(request, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(waiting)
        self._work.set()
        reply = await waiting.reply
        if reply.fingerprint != request.fingerprint:
            raise key_reused(request.key)
        return reply

    async def run(self) -> None:
        while True:
            await self._work.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._work.clear()
            oldest = time.monotonic() - PATIENCE_S
            _refuse([one for one in batch if one.since < oldest], Unavailable("the database is too slow"))
            await self._serve([one for one in batch if not one.reply.done()])

    async def _serve(self, batch: Sequence[Waiting]) -> None:
        if not batch:
            return
        try:
            replies = await self._transact([one.request for one in batch])
        except Exception as error:
            self._metrics.add("credit.failed_batches")
            _refuse(batch, error)
            return
        self._metrics.add("credit.batches")
        for one in batch:
            reply = replies[one.request.key]
            if isinstance(reply, Problem):
                _refuse([one], reply)
            elif not one.reply.done():
                one.reply.set_result(reply)

    async def _transact(self, requests: Sequence[Request]) -> Replies:
        try:
            return await self._database.run(lambda session: self.serve_batch(session, requests))
        except Exception as error:
            if not is_lockdown(error):
                raise
        self._metrics.add("credit.locked_down_batches")
        return await self._database.run(lambda session: self.serve_batch(session, requests, ask=False))

    async def serve_batch(
        self, session: Session, requests: Sequence[Request], *, ask: bool = True
    ) -> dict[str, Reply | Problem]:
        """Decide and post a batch; the replies are stored in the same transaction.

        ``ask`` False: in a lockdown, nothing is admitted. Admission comes before all locks, for a change
        of mode waits for those who hold it. The stored replies are read under the locks: a batch whose
        commit was in doubt may be committing still, and all batches meet at the gate.
        """
        epoch = await admit(session) if ask and any(map(needs_admission, requests)) else None
        books = await self._open(session, requests)
        replies: dict[str, Reply | Problem] = {
            row["key"]: Reply(row["fingerprint"], row["status"], json.loads(row["body"]))
            for row in await session.fetch(_STORED, [request.key for request in requests])
        }
        decided: dict[str, Reply] = {}
        for request in requests:
            if request.key in replies:
                continue
            replies[request.key] = reply = self._decide(books, request, epoch)
            if isinstance(reply, Reply):
                decided[request.key] = reply
        await save(session, books, self._outbox, self._validity_s)
        await _store(session, decided)
        return replies

    async def _open(self, session: Session, requests: Sequence[Request]) -> Books:
        reported = [request.session_id for request in requests if isinstance(request, Report)]
        initial = [request.session_id for request in requests if isinstance(request, Initial)]
        subscribers = {request.subscriber for request in requests if not isinstance(request, Report)}
        subscribers |= await subscribers_of(session, reported)
        return await open_books(session, subscribers, [*reported, *initial] or None)

    def _decide(self, books: Books, request: Request, epoch: int | None) -> Reply | Problem:
        if isinstance(request, Report):
            return sessions.report(books, request, epoch, self._validity_s)
        if epoch is None:
            return sessions.locked_down()
        if isinstance(request, Debit):
            return credit.charge(books, request, epoch)
        return sessions.begin(books, request, epoch, self._validity_s)


def _refuse(waiting: Sequence[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.reply.done():
            one.reply.set_exception(error)


async def _store(session: Session, replies: Mapping[str, Reply]) -> None:
    if replies:
        await session.execute(
            _STORE,
            list(replies),
            [reply.fingerprint for reply in replies.values()],
            [reply.status for reply in replies.values()],
            [json.dumps(reply.body) for reply in replies.values()],
        )
