"""Roaming authorisation: may our subscriber use a partner's network now?

Yes, where an agreement with the partner is in force, and the subscriber has an account with anything left
to spend. Asked by the partner's network at the moment of use, so it is answered soon and whatever is broken:
from the replica, else from the primary, else as it was heard last, with its age. Settlement and the partner
have no part in it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from billing.charging.ledger import main_account
from billing.common import (
    Database,
    Metrics,
    Record,
    is_infrastructure,
    json_object,
    refused,
    text_field,
    whole_number,
)

READ_S = 0.4
AVOID_S = 1.0
REMEMBERED = 20_000

_READ = """
select (select balance_minor + credit_limit_minor from account where id = $1) as spendable_minor,
       exists (select from public.roaming_agreement where partner = $2) as agreed,
       case when current_setting('transaction_read_only')::boolean then (select at from heartbeat)
            else transaction_timestamp() end as as_of"""


@dataclass
class Source:
    """A database to read from; after a failure it is left alone for a while."""

    database: Database
    answers: Callable[[], bool]
    avoided_until: float = 0.0

    async def read(self, account: str, partner: str) -> Record | None:
        """One row, or None when this source cannot be read now."""
        if not self.answers() or time.monotonic() < self.avoided_until:
            return None
        try:
            async with asyncio.timeout(READ_S):
                return await self.database.fetchrow(_READ, account, partner)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self.avoided_until = time.monotonic() + AVOID_S
            return None


@dataclass(frozen=True)
class Decision:
    """An answer, and the instant it was true for."""

    authorised: bool
    reason: str
    as_of: datetime


def decide(spendable_minor: int | None, agreed: bool, as_of: datetime) -> Decision:
    """``spendable_minor``: balance and credit; None where there is no account."""
    if not agreed:
        return Decision(False, "no agreement with the partner is in force", as_of)
    if spendable_minor is None:
        return Decision(False, "no such subscriber", as_of)
    if spendable_minor <= 0:
        return Decision(False, "nothing left to spend", as_of)
    return Decision(True, "agreement in force, account in credit", as_of)


class Roamers:
    """The handler, and the newest answers, by subscriber and partner: at most REMEMBERED."""

    def __init__(
        self, primary: Database, replica: Database, answers: Callable[[], bool], metrics: Metrics
    ) -> None:
        """``answers``: whether the primary did when last asked."""
        self._sources = (Source(replica, lambda: True), Source(primary, answers))
        self._metrics = metrics
        self._heard: OrderedDict[tuple[int, str], Decision] = OrderedDict()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/roaming/authorisations", self.authorise)]

    async def authorise(self, request: web.Request) -> web.Response:
        """``POST /roaming/authorisations``: 200, or 503 where nothing can be read and nothing was heard."""
        body = await json_object(request)
        subscriber, partner = whole_number(body, "subscriber", at_least=1), text_field(body, "partner")
        decision = await self._decide(subscriber, partner)
        if decision is None:
            raise refused("no database answers", f"nothing was heard before of subscriber {subscriber}")
        as_of = decision.as_of.astimezone(UTC).isoformat()
        return web.json_response({**vars(decision), "as_of": as_of})

    async def _decide(self, subscriber: int, partner: str) -> Decision | None:
        for source in self._sources:
            row = await source.read(main_account(subscriber), partner)
            if row is not None:
                decision = decide(**row)
                self._remember((subscriber, partner), decision)
                return decision
        self._metrics.add("roamers.from_memory")
        return self._heard.get((subscriber, partner))

    def _remember(self, asked: tuple[int, str], decision: Decision) -> None:
        self._heard[asked] = decision
        self._heard.move_to_end(asked)
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
