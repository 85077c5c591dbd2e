"""Roaming authorisation: may our subscriber use a partner's network now?

Yes, where an agreement with the partner is in force, and the subscriber has an account with anything left
to spend. Asked by the partner's network at the moment of use, so it is answered soon and whatever is broken:
from the replica, else from the primary, else from a replica that is too far behind or as it was heard last,
whichever is newer, with its age. Settlement and the partner have no part in it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from billing.charging.balance import MAX_LAG_S, Source, Sources
from billing.charging.ledger import main_account
from billing.common import (
    Database,
    Metrics,
    json_object,
    refused,
    text_field,
    whole_number,
)

READ_S = 0.4
REMEMBERED = 20_000

_READ = """
select (select balance_minor + credit_limit_minor from account where id = $1) as spendable_minor,
       exists (select from public.roaming_agreement where partner = $2) as agreed,
       case when s.standby then h.at else transaction_timestamp() end as as_of,
       case when s.standby then extract(epoch from clock_timestamp() - h.at)::float8 else 0 end as lag_s
from (select current_setting('transaction_read_only')::boolean as standby) s cross join heartbeat h"""


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
        self._sources = Sources(
            Source("primary", primary, answers, READ_S),
            Source("replica", replica, lambda: True, READ_S),
            metrics,
            "roamers",
        )
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
        asked = (subscriber, partner)
        row = await self._sources.fresh_enough(_READ, main_account(subscriber), partner)
        heard = self._heard.get(asked)
        if row is None or (row["lag_s"] > MAX_LAG_S and heard is not None and heard.as_of > row["as_of"]):
            self._metrics.add("roamers.from_memory")
            return heard
        decision = decide(row["spendable_minor"], row["agreed"], row["as_of"])
        self._remember(asked, decision)
        return decision

    def _remember(self, asked: tuple[int, str], decision: Decision) -> None:
        self._heard[asked] = decision
        self._heard.move_to_end(asked)
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
