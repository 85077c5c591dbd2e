"""What a PSP says unasked: late, twice, in any order; signed, or it was not the PSP.

Each call-back is kept, and what it tells is believed where it ends a doubt: a capture settles a payment that
was not known to be captured, a void closes the conversation with that PSP (and no other), a refund ends one
that was asked for. What is known is ignored. What contradicts our books is noted for people, and
reconciliation finds it in the PSP's statement: no money moves back because of a call-back.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import UUID

from aiohttp import web

from billing.common import Bell, Database, Log, Metrics, Problem, Record, text_field, whole_number
from billing.payments.cashier import Cashier
from billing.payments.refunds import Refund, Refunds
from billing.payments.store import PAYMENT, Payment, PaymentStore, payment_of

SIGNATURE = "X-Signature"

Told = Literal["captured", "voided", "refunded"]
Bearing = Literal["settle", "close", "refunded", "known", "contradicts"]

GATHER_S = 0.1  # a PSP can wait, and a commit for each would be one for every payment
BATCH = 200

# Kept, and in the same round trip what we know of each payment, by the place in the batch.
_KEEP = f"""
with given as (
  select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::uuid[])
    with ordinality g (psp, callback_id, event, key, amount_minor, payment_id, place)),
kept as (
  insert into psp_callback (psp, callback_id, event, key, amount_minor, copies)
  select distinct on (psp, callback_id) psp, callback_id, event, key, amount_minor,
         count(*) over (partition by psp, callback_id) from given
  on conflict (psp, callback_id) do update set copies = psp_callback.copies + excluded.copies)
select g.place, {PAYMENT}, p.state, p.psp as channel, a.state as attempt,
       r.id as refund_id, r.key as refund_key, r.psp as refund_psp, r.state as refund_state
from given g join payment p on p.id = g.payment_id
left join psp_attempt a on a.payment_id = p.id and a.psp = g.psp
left join refund r on r.payment_id = p.id"""


@dataclass(frozen=True)
class Callback:
    """``psp`` as in ledger accounts. ``amount_minor`` None: a void of what was never ordered."""

    psp: str
    callback_id: str
    event: Told
    key: str
    amount_minor: int | None

    @property
    def payment_id(self) -> UUID | None:
        """None where the key is none of ours."""
        try:
            return UUID(self.key)
        except ValueError:
            return None


@dataclass(frozen=True)
class Books:
    """What we know when a call-back comes. ``channel``: who has the money; ``attempt``: with its PSP."""

    payment: Payment
    state: str
    channel: str | None
    attempt: str | None
    refund: Refund | None


def bearing(callback: Callback, books: Books) -> Bearing:
    """What a call-back means for what we know."""
    if callback.event != "voided" and callback.amount_minor != books.payment.amount_minor:
        return "contradicts"
    match callback.event:
        case "captured" if books.state in ("pending", "unknown") and books.attempt in ("open", "unknown"):
            return "settle"
        case "captured":
            here = books.state == "settled" and books.channel == callback.psp
            return "known" if here else "contradicts"
        case "voided" if books.attempt in ("open", "unknown"):
            return "close"
        case "voided":
            return "known" if books.attempt in ("void", "declined") else "contradicts"
        case "refunded":
            if books.refund is None or books.refund.psp != callback.psp:
                return "contradicts"
            return "refunded" if books.refund.state == "pending" else "known"


def is_signed(content: bytes, signature: str, key: str) -> bool:
    """Whether ``signature`` is the hex HMAC-SHA256 of the content."""
    due = hmac.new(key.encode(), content, hashlib.sha256).hexdigest()
    return hmac.compare_digest(due.encode(), signature.encode(errors="surrogateescape"))


def parse(body: Any) -> Callback:
    """A call-back's body. Raises Problem 400."""
    if not isinstance(body, dict):
        raise Problem(400, "malformed body", "a JSON object is expected")
    event = body.get("event")
    if event not in get_args(Told):
        raise Problem(400, "malformed body", f"event must be one of {get_args(Told)}, not {event!r}")
    unordered = event == "voided" and body.get("amount_minor") is None
    return Callback(
        text_field(body, "psp").replace("-", "_"),
        text_field(body, "callback_id"),
        event,
        text_field(body, "key"),
        None if unordered else whole_number(body, "amount_minor", at_least=1),
    )


class Callbacks:
    """The route ``/psp/callback``; ``run`` keeps what it hears, many in one statement."""

    def __init__(
        self,
        database: Database,
        store: PaymentStore,
        cashier: Cashier,
        refunds: Refunds,
        key: str,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._database = database
        self._store = store
        self._cashier = cashier
        self._refunds = refunds
        self._key = key
        self._metrics = metrics
        self._log = log
        self._waiting: list[tuple[Callback, asyncio.Future[Books | None]]] = []
        self._bell = Bell()

    async def hear(self, request: web.Request) -> web.Response:
        content = await request.read()
        if not is_signed(content, request.headers.get(SIGNATURE, ""), self._key):
            self._metrics.add("callbacks.unsigned")
            raise Problem(401, "not signed", f"the header {SIGNATURE} must sign the body")
        try:
            body = json.loads(content)
        except ValueError as error:
            raise Problem(400, "malformed body", str(error)) from error
        told = await self.take(parse(body))
        return web.json_response({"status": told})

    async def take(self, callback: Callback) -> Bearing:
        """Keep it and conclude by it. A copy concludes as the first did, should that have been cut short."""
        books = await self._keep(callback)
        means: Bearing = "contradicts" if books is None else bearing(callback, books)
        self._metrics.add(f"callbacks.{means}")
        if books is None or means == "contradicts":
            self._log("callback.contradicts", psp=callback.psp, told=callback.event, key=callback.key)
        elif means == "settle":
            await self._cashier.conclude_settled(books.payment, callback.psp)
        elif means == "close":
            await self._store.voided(books.payment, callback.psp)  # the rest is the resolver's
        elif means == "refunded" and books.refund is not None:
            await self._refunds.conclude(books.refund)
        return means

    async def _keep(self, callback: Callback) -> Books | None:
        """What we know of its payment, once it is kept with those that came at the same time."""
        kept: asyncio.Future[Books | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((callback, kept))
        self._bell.ring()
        return await kept

    async def run(self) -> None:
        while True:
            await self._bell.wait(1.0)
            await asyncio.sleep(GATHER_S)
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await self._keep_batch(batch)

    async def _keep_batch(self, batch: Sequence[tuple[Callback, asyncio.Future[Books | None]]]) -> None:
        """Whatever goes wrong is each one's answer: its PSP sends it again."""
        try:
            books = await self._store_batch([callback for callback, _ in batch])
        except Exception as error:
            for _, kept in batch:
                if not kept.done():
                    kept.set_exception(error)
            return
        for place, (_, kept) in enumerate(batch, start=1):
            if not kept.done():
                kept.set_result(books.get(place))

    async def _store_batch(self, callbacks: Sequence[Callback]) -> dict[int, Books]:
        rows = await self._database.fetch(
            _KEEP,
            [callback.psp for callback in callbacks],
            [callback.callback_id for callback in callbacks],
            [callback.event for callback in callbacks],
            [callback.key for callback in callbacks],
            [callback.amount_minor for callback in callbacks],
            [callback.payment_id for callback in callbacks],
            attempts=2,
        )
        return {row["place"]: _books(row) for row in rows}


def _books(row: Record) -> Books:
    payment = payment_of(row)
    refund = None
    if row["refund_id"] is not None:
        refund = Refund(row["refund_id"], row["refund_key"], row["refund_psp"], row["refund_state"], payment)
    return Books(payment, row["state"], row["channel"], row["attempt"], refund)
