"""A payment service provider: captures, declines, voids and refunds; idempotent by the caller's key.

A void of a key never seen leaves a tombstone: a charge that arrives later under it is refused. So a
caller in doubt can make sure that a capture never happens. Each capture, void and refund is also told to the
merchant by a call-back (``callbacks.py``), in its own time.
"""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from witnesses.callbacks import Callbacks, Telling
from witnesses.common import AnswerTime, EventLog, Record, Refusal, application, field, json_object, serve

State = Literal["captured", "declined", "voided", "refunded"]
_STATE_OF: dict[str, State] = {
    "capture": "captured",
    "decline": "declined",
    "void": "voided",
    "refund": "refunded",
}


@dataclass(frozen=True)
class Order:
    """What the caller asks to be charged; None where a key was voided before any charge."""

    payment_id: str | None
    merchant_reference: str | None
    subscriber: int | None
    amount_minor: int | None


STATEMENT_PAGE = 500
NOTHING = Order(None, None, None, None)


@dataclass(frozen=True)
class Charge:
    """What became of a key. ``charge_id`` None: nothing was ever captured."""

    state: State
    order: Order
    charge_id: str | None


@dataclass(frozen=True)
class StatementLine:
    """Money that moved: ``event`` is ``capture`` or ``refund``."""

    seq: int
    event: str
    key: str
    amount_minor: int


class Book:
    """The provider's books: every change is a line of the log first. ``tell`` hears of each afterwards."""

    def __init__(self, log: EventLog, tell: Callable[[Telling], None] = lambda _: None) -> None:
        self._log = log
        self._tell = tell
        self._charges: dict[str, Charge] = {}
        self._statement: list[StatementLine] = []
        self._rebuild(log.recovered)

    def _rebuild(self, lines: Iterable[Record]) -> None:
        for line in lines:
            if line["event"] == "callback":
                continue
            self._enter(line["seq"], line["event"], line["key"], line["amount_minor"])
            if line["event"] in _STATE_OF:
                order = Order(*(line[name] for name in Order.__dataclass_fields__))
                self._charges[line["key"]] = Charge(_STATE_OF[line["event"]], order, line["charge_id"])

    def _enter(self, seq: int, event: str, key: str, amount_minor: int) -> None:
        if event in ("capture", "refund"):
            self._statement.append(StatementLine(seq, event, key, amount_minor))

    def statement(self, after: int) -> list[StatementLine]:
        """The next page of what was taken and given back: lines with a higher ``seq`` than ``after``."""
        begin = bisect_right(self._statement, after, key=lambda line: line.seq)
        return self._statement[begin : begin + STATEMENT_PAGE]

    def _note(self, event: str, key: str, order: Order, charge_id: str | None) -> int:
        return self._log.append([{"event": event, "key": key, **vars(order), "charge_id": charge_id}])

    def _change(self, event: str, key: str, order: Order, charge_id: str | None) -> Charge:
        seq = self._note(event, key, order, charge_id)
        self._enter(seq, event, key, order.amount_minor or 0)
        self._charges[key] = charge = Charge(_STATE_OF[event], order, charge_id)
        if event != "decline":  # that is said in the answer, and nowhere else
            self._tell(Telling(seq, charge.state, key, order.amount_minor))
        return charge

    def find(self, key: str) -> Charge | None:
        return self._charges.get(key)

    def charge(self, key: str, order: Order) -> Charge:
        """Capture or decline; the same key again gives what the first call gave."""
        known = self._charges.get(key)
        if known is None:
            if str(order.amount_minor).endswith("13"):
                return self._change("decline", key, order, None)
            return self._change("capture", key, order, f"charge:{key}")
        if known.state == "voided":
            self._note("refused", key, order, None)
            raise Refusal(409, f"key {key!r} was voided")
        if known.order != order:
            self._note("refused", key, order, None)
            raise Refusal(422, f"key {key!r} was used for another order")
        self._note("replay", key, order, known.charge_id)
        return known

    def void(self, key: str) -> Charge:
        """Make sure that nothing is captured under this key, unless it has been already."""
        known = self._charges.get(key)
        if known is None or known.state == "declined":
            return self._change("void", key, known.order if known else NOTHING, None)
        return known

    def refund(self, key: str) -> Charge:
        """Give a captured amount back, once."""
        known = self._charges.get(key)
        if known is None or known.state not in ("captured", "refunded"):
            self._note("refused", key, known.order if known else NOTHING, None)
            raise Refusal(409, f"nothing was captured under key {key!r}")
        if known.state == "refunded":
            return known
        return self._change("refund", key, known.order, known.charge_id)


def _answer(charge: Charge, status: int = 200) -> web.Response:
    body: dict[str, Any] = {
        "status": charge.state,
        "charge_id": charge.charge_id,
        "amount_minor": charge.order.amount_minor,
    }
    return web.json_response(body, status=status)


def _order(body: Record) -> Order:
    amount_minor = field(body, "amount_minor", int)
    if amount_minor <= 0:
        raise Refusal(400, f"'amount_minor' must be positive, not {amount_minor}")
    return Order(
        payment_id=field(body, "payment_id", str),
        merchant_reference=field(body, "merchant_reference", str),
        subscriber=field(body, "subscriber", int),
        amount_minor=amount_minor,
    )


class Provider:
    """The HTTP side of the book."""

    def __init__(self, book: Book, answer_time: AnswerTime) -> None:
        self._book = book
        self._answer_time = answer_time

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/charges", self.charge),
            web.get("/charges/{key}", self.inquire),
            web.get("/statement", self.statement),
            web.post("/charges/{key}/void", self.void),
            web.post("/charges/{key}/refund", self.refund),
        ]

    async def charge(self, request: web.Request) -> web.Response:
        key = request.headers.get("Idempotency-Key")
        if not key:
            raise Refusal(400, "the header Idempotency-Key is missing")
        order = _order(await json_object(request))
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        charge = self._book.charge(key, order)
        await asyncio.sleep(after_s)
        if charge.state == "declined":
            return _answer(charge, 402)
        # The first answer stands, even if the money was given back since.
        return _answer(Charge("captured", charge.order, charge.charge_id), 201)

    async def void(self, request: web.Request) -> web.Response:
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        charge = self._book.void(request.match_info["key"])
        await asyncio.sleep(after_s)
        return _answer(charge)

    async def refund(self, request: web.Request) -> web.Response:
        before_s, after_s = self._answer_time.draw()
        await asyncio.sleep(before_s)
        charge = self._book.refund(request.match_info["key"])
        await asyncio.sleep(after_s)
        return _answer(charge)

    async def inquire(self, request: web.Request) -> web.Response:
        charge = self._book.find(request.match_info["key"])
        if charge is None:
            raise Refusal(404, f"no charge under key {request.match_info['key']!r}")
        return _answer(charge)

    async def statement(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise Refusal(400, f"after must be a whole number, not {after!r:.100}")
        lines = self._book.statement(int(after))
        more = len(lines) == STATEMENT_PAGE  # then the last page may be empty
        return web.json_response({"lines": [vars(line) for line in lines], "more": more})


def main() -> None:
    name = os.environ["PSP_NAME"]
    log = EventLog(Path(os.environ["LOG_FILE"]), name)
    app = application(log)
    callbacks = Callbacks(name, os.environ["CALLBACK_URL"], os.environ["CALLBACK_KEY"], log)
    book = Book(log, callbacks.tell)
    app.add_routes(Provider(book, AnswerTime(f"{name}/7", 0.005, 0.015)).routes())

    async def pending(_: web.Request) -> web.Response:
        return web.json_response({"pending": callbacks.pending})

    app.add_routes([web.get("/pending", pending)])
    app.cleanup_ctx.append(callbacks.run)
    serve(app)


if __name__ == "__main__":
    main()
