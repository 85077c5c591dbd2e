"""The till: where all that clients spend is decided, in batches.

Requests that come while a transaction runs wait for the next one, which takes all of them: one commit serves
many, and a slow database makes batches larger. Debits and sessions share the batches.

In a lockdown what needs admission is refused; the rest (stored answers, reports of use) is served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from billing.charging import credit, sessions
from billing.charging.batches import Batches, Wanted
from billing.charging.books import Books
from billing.charging.requests import Debit, Reply, Report, Request, needs_admission
from billing.common import Metrics, Problem, Unavailable, key_reused

BATCH = 100
PATIENCE_S = 3.0  # a request that waited longer is refused before anything is done for it

Replies: TypeAlias = Mapping[str, Reply | Problem]


@dataclass(frozen=True)
class Waiting:
    """A request whose client waits; ``since`` by the monotonic clock."""

    request: Request
    reply: asyncio.Future[Reply]
    since: float


class Till:
    """Collects requests into batches; ``run`` is a background task of the service."""

    def __init__(self, batches: Batches, metrics: Metrics) -> None:
        self._batches = batches
        self._metrics = metrics
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
            replies = await self.serve_batch([one.request for one in batch])
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

    async def serve_batch(self, requests: Sequence[Request]) -> Replies:
        """Decide and post a batch; the replies are stored in the same transaction."""
        wanted = Wanted(
            {request.subscriber for request in requests if not isinstance(request, Report)},
            [request.session_id for request in requests if not isinstance(request, Debit)],
            [request.key for request in requests],
        )
        validity_s = self._batches.validity_s
        return await self._batches.settle(wanted, lambda books: decide(books, requests, validity_s))


def decide(books: Books, requests: Sequence[Request], validity_s: float) -> Replies:
    """The answer to each request by its key: the one it had before, or what is decided now, one by one.

    What is a Reply is kept, and stored with the effect; a Problem has no effect.
    """
    replies: dict[str, Reply | Problem] = dict(books.stored)
    for request in requests:
        if request.key in replies:
            continue
        replies[request.key] = reply = _decide(books, request, validity_s)
        books.asks |= needs_admission(request) and books.epoch is not None
        if isinstance(reply, Reply):
            books.replies[request.key] = reply
    return replies


def _decide(books: Books, request: Request, validity_s: float) -> Reply | Problem:
    if isinstance(request, Report):
        return sessions.report(books, request, books.epoch, validity_s)
    if books.epoch is None:
        return sessions.locked_down()
    if isinstance(request, Debit):
        return credit.charge(books, request, books.epoch)
    return sessions.begin(books, request, books.epoch, validity_s)


def _refuse(waiting: Sequence[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.reply.done():
            one.reply.set_exception(error)
