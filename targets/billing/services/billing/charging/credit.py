"""Event charging: ``POST /credit-control`` debits at once, or refuses.

All debits meet in ``revenue:content``. Requests that come while a transaction runs wait for the next
one, which takes all of them: one commit serves many, and a slow database makes batches larger.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from billing.charging.ledger import (
    Account,
    Transfer,
    claim,
    lock_accounts,
    main_account,
    transfer,
    write_postings,
)
from billing.common import Database, Metrics, Problem, Session, Unavailable, key_reused

BATCH = 100
PATIENCE_S = 3.0  # a debit that waited longer is refused before anything is done for it
TO = "revenue:content"


@dataclass(frozen=True)
class Debit:
    """One request, under its idempotency key."""

    key: str
    fingerprint: str
    subscriber: int
    amount_minor: int


@dataclass(frozen=True)
class Reply:
    """The answer that is stored with the debit and given again for the same key."""

    fingerprint: str
    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """A debit whose client waits; ``since`` by the monotonic clock."""

    debit: Debit
    reply: asyncio.Future[Reply]
    since: float


_STORED = "select key, fingerprint, status, body from idempotency_key where key = any($1::text[])"

_STORE = """
insert into idempotency_key (key, fingerprint, status, body)
select * from unnest($1::text[], $2::text[], $3::int[], $4::jsonb[])"""


class Till:
    """Collects debits into batches; ``run`` is a background task of the service."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._waiting: list[Waiting] = []
        self._work = asyncio.Event()

    async def charge(self, debit: Debit) -> Reply:
        """The answer to a debit, once it is committed. Raises Problem, or what broke the transaction."""
        waiting = Waiting(debit, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(waiting)
        self._work.set()
        reply = await waiting.reply
        if reply.fingerprint != debit.fingerprint:
            raise key_reused(debit.key)
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
        debits = [one.debit for one in batch]
        try:
            replies = await self._database.run(lambda session: self.charge_batch(session, debits))
        except Exception as error:
            self._metrics.add("credit.failed_batches")
            _refuse(batch, error)
            return
        self._metrics.add("credit.batches")
        for one in batch:
            reply = replies.get(one.debit.key)
            if reply is None:
                _refuse([one], Problem(404, "no such subscriber", str(one.debit.subscriber)))
            elif not one.reply.done():
                one.reply.set_result(reply)

    async def charge_batch(self, session: Session, debits: Sequence[Debit]) -> dict[str, Reply]:
        """Decide and post a batch; the replies are stored in the same transaction.

        No reply for the debit of an unknown subscriber. The stored replies are read under the locks: a
        batch whose commit was in doubt may be committing still, and all batches meet in one account.
        """
        names = {main_account(debit.subscriber) for debit in debits} | {TO}
        accounts = await lock_accounts(session, names, open_missing=False)
        replies = {
            row["key"]: Reply(row["fingerprint"], row["status"], json.loads(row["body"]))
            for row in await session.fetch(_STORED, [debit.key for debit in debits])
        }
        new: dict[str, Debit] = {}
        for debit in debits:
            if debit.key not in replies:
                new.setdefault(debit.key, debit)
        if not new:
            return replies
        decided, transfers = _decide(list(new.values()), accounts)
        if len(await claim(session, transfers)) < len(transfers):
            raise RuntimeError("a debit without a stored reply is in the ledger already")
        await write_postings(session, transfers, accounts)
        await _store(session, decided)
        return replies | decided


def _refuse(waiting: Sequence[Waiting], error: Exception) -> None:
    for one in waiting:
        if not one.reply.done():
            one.reply.set_exception(error)


def _decide(debits: Sequence[Debit], accounts: dict[str, Account]) -> tuple[dict[str, Reply], list[Transfer]]:
    """Who may pay, in the order of arrival, each seeing what the ones before have spent."""
    replies: dict[str, Reply] = {}
    transfers: list[Transfer] = []
    left = {name: account.spendable_minor for name, account in accounts.items()}
    for debit in debits:
        name = main_account(debit.subscriber)
        if name not in accounts:
            continue
        if left[name] < debit.amount_minor:
            replies[debit.key] = Reply(debit.fingerprint, 402, over_limit(debit))
            continue
        left[name] -= debit.amount_minor
        item = transfer("charge", debit.key, debit.key, debit.amount_minor, source=name, to=TO)
        balance_minor = left[name] - accounts[name].credit_limit_minor
        body = {"transaction_id": str(item.id), "balance_minor": balance_minor}
        replies[debit.key] = Reply(debit.fingerprint, 201, body)
        transfers.append(item)
    return replies, transfers


def over_limit(debit: Debit) -> dict[str, Any]:
    detail = f"subscriber {debit.subscriber} may not spend {debit.amount_minor}"
    return {"type": "about:blank", "title": "over the limit", "status": 402, "detail": detail}


async def _store(session: Session, replies: dict[str, Reply]) -> None:
    if replies:
        await session.execute(
            _STORE,
            list(replies),
            [reply.fingerprint for reply in replies.values()],
            [reply.status for reply in replies.values()],
            [json.dumps(reply.body) for reply in replies.values()],
        )
