"""Mass messages to many subscribers: they wait until nothing more urgent is due."""

from __future__ import annotations

from uuid import UUID, uuid5

from aiohttp import web

from billing.common import Database, Problem, Session, query_number
from billing.notify.delivery import Delivery
from billing.notify.message import campaign_message
from billing.notify.store import keep

NAMESPACE = UUID("3d9f4d56-6d0c-4b73-9c0e-7b4f6a3f2a10")
MOST = 10_000
BODY = "New: twice the data for the same price. Ask for it at any of our shops."

_BEGIN = """
insert into campaign (id, event_id, body, recipients) values ($1, $2, $3, $4) on conflict do nothing
returning true"""
_RECIPIENTS = "select recipients from campaign where id = $1"


class Campaigns:
    """``POST /campaigns/{id}?recipients=N``: to subscribers 1 to N, each once, however often it is asked."""

    def __init__(self, database: Database, delivery: Delivery) -> None:
        self._database = database
        self._delivery = delivery

    async def start(self, request: web.Request) -> web.Response:
        campaign = request.match_info["id"]
        if not (campaign.isascii() and campaign.isalnum() and len(campaign) <= 32):
            raise Problem(
                400, "malformed campaign", f"an id is 1 to 32 letters and digits, not {campaign!r:.50}"
            )
        recipients = query_number(request, "recipients", at_least=1, at_most=MOST)
        event_id = uuid5(NAMESPACE, campaign)
        messages = [campaign_message(event_id, n, BODY) for n in range(1, recipients + 1)]

        async def begin(session: Session) -> int:
            if await session.fetchval(_BEGIN, campaign, event_id, BODY, len(messages)):
                await keep(session, messages)
                session.after_commit(self._delivery.wake)
                return recipients
            stored: int = await session.fetchval(_RECIPIENTS, campaign)
            return stored

        stored = await self._database.run(begin)
        if stored != recipients:
            raise Problem(
                422, "campaign reused", f"{campaign} went to {stored} recipients, not to {recipients}"
            )
        return web.json_response({"campaign": campaign, "recipients": len(messages)})
