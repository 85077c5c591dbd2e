"""A batch is two statements: one that reads all there is to know, one that writes all that was decided.

Nothing is locked while decisions are made. Instead the writing statement, ``charging.write_batch`` (in
``schema/31_charging_books.sql``, with what it checks), locks everything and refuses unless what was read
still stands; then it is read and decided anew. So each batch is decided as if it were alone, and costs two
round trips, with neither ``begin`` nor ``commit``: one statement is one transaction. Batches follow one
another, so every round trip is time that all who wait spend waiting.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from billing.charging.books import Books, Bucket, CreditSession, Reservation
from billing.charging.ledger import Account, legs_of, rows_of
from billing.charging.requests import Reply
from billing.common import (
    CommitInDoubt,
    Database,
    Metrics,
    Outbox,
    Unavailable,
    after_a_write,
    event_json,
    is_infrastructure,
    is_lockdown,
)

TRIES = 10
STALE = "LQ409"  # the SQLSTATE that ``charging.write_batch`` raises

T = TypeVar("T")

# Of one snapshot. The epoch is null in a lockdown; a session's subscriber is never another.
_READ = """
with who as (
  select unnest($1::bigint[]) as subscriber union select subscriber from session where id = any($2::text[]))
select json_build_object(
  'written', (select written from batches),
  'epoch', (select epoch from public.mode_in_force where mode <> 'lockdown'),
  'stored', (select json_agg(k) from (
    select key, fingerprint, status, body from idempotency_key where key = any($3::text[])) k),
  'accounts', (select json_agg(a) from (
    select id, balance_minor, credit_limit_minor, version from account
    where id = any(array(select 'sub:' || subscriber || ':main' from who))) a),
  'sessions', (select json_agg(s) from (
    select id, subscriber, service, state, last_request, used_units, charged_minor, leaked_units,
           leaked_minor, state = 'open' and expires_at <= clock_timestamp() as due
    from session where id = any($2::text[])) s),
  'reservations', (select json_agg(r) from (
    select id, session_id, request_number, bucket_units, paid_units, held_minor, epoch
    from reservation where state = 'open' and session_id = any($2::text[])) r),
  'buckets', (select json_agg(b) from (
    select subscriber, service, quota_units, used_units, reserved_units, price_micro_per_unit as price_micro
    from bucket join price using (service) where subscriber = any(array(select subscriber from who))) b))"""

_WRITE = "select write_batch($1::jsonb)"


@dataclass(frozen=True)
class Wanted:
    """What is to be read: subscribers, besides those of the sessions; sessions; replies stored under keys."""

    subscribers: Collection[int] = ()
    session_ids: Collection[str] = ()
    keys: Collection[str] = ()


class Batches:
    """Of one service, which does one batch at a time: others in between would only make it stale.

    ``validity_s``: so long is a grant good.
    """

    def __init__(self, database: Database, outbox: Outbox, metrics: Metrics, validity_s: float) -> None:
        self.validity_s = validity_s
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._turn = asyncio.Lock()

    async def settle(self, wanted: Wanted, decide: Callable[[Books], T]) -> T:
        """What ``decide`` returned about books that stood until all it changed in them was written.

        It may be called several times, each time with new books. Raises CommitInDoubt when it was not learnt
        whether it was written, and Unavailable when nothing was.
        """
        async with self._turn:
            for tries in range(TRIES):
                # A write that was found stale may have been so because a try of it was heard, not answered.
                with after_a_write() if tries else nullcontext():
                    read = json.loads(await self._read(wanted))
                books = books_of(read)
                decided = decide(books)
                if _is_as_before(books, wanted) or await self._write(read["written"], books):
                    return decided
                self._metrics.add("batches.stale")
        raise CommitInDoubt(f"what was read was stale {TRIES} times")

    async def _read(self, wanted: Wanted) -> str:
        text: str = await self._database.fetchval(
            _READ, list(wanted.subscribers), list(wanted.session_ids), list(wanted.keys), attempts=3
        )
        return text

    async def _write(self, written: int, books: Books) -> bool:
        """False: what was read stands no more, or the gate is closed. Nothing was written.

        A second attempt does no harm: after one that was written it is stale.
        """
        batch = json.dumps(batch_of(written, books, self.validity_s))
        try:
            await self._database.fetchval(_WRITE, batch, attempts=3)
        except Exception as error:
            if is_stale(error) or is_lockdown(error):
                return False
            if is_infrastructure(error) and not isinstance(error, Unavailable):
                raise CommitInDoubt(f"{type(error).__name__}: {error}") from error
            raise
        if books.crossings:
            self._outbox.wake()
        return True


def is_stale(error: BaseException) -> bool:
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate == STALE


def _is_as_before(books: Books, wanted: Wanted) -> bool:
    """Nothing was decided: whatever was asked has its stored reply, and no session has ended.

    A refusal is decided, too, though it writes nothing: it is true only if what was read stands.
    """
    return not books.touched and all(key in books.stored for key in wanted.keys)


def books_of(read: dict[str, Any]) -> Books:
    """The answer of the reading statement; its lists are null where nothing was found."""
    sessions = {row["id"]: CreditSession(**row) for row in read["sessions"] or ()}
    for row in read["reservations"] or ():
        sessions[row["session_id"]].reservation = Reservation(**{**row, "id": UUID(row["id"])})
    buckets = (Bucket(**row) for row in read["buckets"] or ())
    return Books(
        accounts={row.pop("id"): Account(**row) for row in read["accounts"] or ()},
        buckets={(bucket.subscriber, bucket.service): bucket for bucket in buckets},
        sessions=sessions,
        epoch=read["epoch"],
        stored={row.pop("key"): Reply(**row) for row in read["stored"] or ()},
    )


def batch_of(written: int, books: Books, validity_s: float) -> dict[str, Any]:
    """The argument of ``charging.write_batch``."""
    return {
        "written": written,
        "epoch": books.epoch if books.asks else None,
        "validity_s": validity_s,
        "accounts": [{"id": name, "version": one.version} for name, one in books.accounts.items()],
        "transfers": rows_of(books.transfers),
        "legs": legs_of(books.transfers),
        "sessions": [_columns(one, "reservation", "due") for one in books.touched.values()],
        "reservations": [_columns(one) for one in books.reservations.values()],
        "buckets": [vars(bucket) for bucket in books.touched_buckets()],
        "crossings": [json.loads(event_json(*crossing.event())) for crossing in books.crossings],
        "replies": [{"key": key, **vars(reply)} for key, reply in books.replies.items()],
    }


def _columns(item: CreditSession | Reservation, *left_out: str) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, UUID) else value
        for name, value in vars(item).items()
        if name not in left_out
    }
