"""What a PSP says unasked: late, twice, in any order; signed, or it was not the PSP.

Each call-back is kept, and what it tells is believed where it ends a doubt: a capture settles a payment that
was not known to be captured, a void closes the conversation with that PSP (and no other), a refund ends one
that was asked for. What is known is ignored. What contradicts our books is noted for people, and
reconciliation finds it in the PSP's statement: no money moves back because of a call-back.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import UUID

from aiohttp import web

from billing.common import Database, Log, Metrics, Problem, Record, text_field, whole_number
from billing.payments.cashier import Cashier
from billing.payments.refunds import Refund, Refunds
from billing.payments.store import PAYMENT, Payment, PaymentStore, payment_of

SIGNATURE = "X-Signature"

Told = Literal["captured", "voided", "refunded"]
Bearing = Literal["settle", "close", "refunded", "known", "contradicts"]

# Kept, and in the same round trip what we know of the payment.
_KEEP = f"""
with kept as (
  insert into psp_callback (psp, callback_id, event, key, amount_minor) values ($1, $2, $3, $4, $5)
  on conflict (psp, callback_id) do update set copies = psp_callback.copies + 1)
select {PAYMENT}, p.state, p.psp as channel, a.state as attempt,
       r.id as refund_id, r.key as refund_key, r.psp as refund_psp, r.state as refund_state
from payment p left join psp_attempt a on a.payment_id = p.id and a.psp = $1
left join refund r on r.payment_id = p.id where p.id = $6::uuid"""


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
    return hmac.compare_digest(due.encode(), signature.encode())


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
    """The route ``/psp/callback``."""

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
        row = await self._database.fetchrow(
            _KEEP,
            callback.psp,
            callback.callback_id,
            callback.event,
            callback.key,
            callback.amount_minor,
            callback.payment_id,
            attempts=2,
        )
        return None if row is None else _books(row)


def _books(row: Record) -> Books:
    payment = payment_of(row)
    refund = None
    if row["refund_id"] is not None:
        refund = Refund(row["refund_id"], row["refund_key"], row["refund_psp"], row["refund_state"], payment)
    return Books(payment, row["state"], row["channel"], row["attempt"], refund)
