"""Notify's other sides: events come in, people ask what was sent."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from billing.common import UNHURRIED_S, Event, Limits, Service, Session, query_number
from billing.notify.campaigns import Campaigns
from billing.notify.delivery import Delivery
from billing.notify.message import message_for, recipient_of
from billing.notify.reconciliation import reconciliation
from billing.notify.store import keep

_LIST = """
select id, event_id, template, body, created_at, delivered_at, attempts from notification
where recipient = $1 order by created_at desc limit 100"""


class Notify:
    """The handlers."""

    def __init__(self, service: Service, delivery: Delivery) -> None:
        self._database = service.database
        self._delivery = delivery

    async def take(self, session: Session, events: Sequence[Event]) -> None:
        """One notice per event, stored with its inbox row; sending comes later."""
        await keep(session, [message_for(event.subject, event.payload) for event in events])
        session.after_commit(self._delivery.wake)

    async def notifications(self, request: web.Request) -> web.Response:
        """``GET /notifications?subscriber=N``: the latest hundred."""
        number = query_number(request, "subscriber")
        rows = await self._database.fetch(_LIST, recipient_of(number), attempts=2)
        notices = [
            {
                "id": str(row["id"]),
                "event_id": str(row["event_id"]),
                "template": row["template"],
                "body": row["body"],
                "created_at": row["created_at"].isoformat(),
                "delivered_at": row["delivered_at"] and row["delivered_at"].isoformat(),
                "attempts": row["attempts"],
            }
            for row in rows
        ]
        return web.json_response({"subscriber": number, "notifications": notices})

    async def unpark(self, _: web.Request) -> web.Response:
        """``POST /deliveries/replay``: notices that the gateway refused are tried again."""
        return web.json_response({"replayed": await self._delivery.unpark()})


def main() -> None:
    service = Service("notify", limits=Limits(size=6))
    gateway = service.client("gateway", "GATEWAY", timeout_s=2.0, attempts=1)
    delivery = Delivery(service.database, gateway, service.outbox, service.metrics, service.log)
    notify = Notify(service, delivery)
    service.app.add_routes(
        [
            web.get("/notifications", notify.notifications),
            web.post("/deliveries/replay", notify.unpark),
            web.post("/campaigns/{id}", Campaigns(service.database, delivery).start),
        ]
    )
    service.consume(
        [
            "payment.settled",
            "payment.failed",
            "payment.refunded",
            "quota.threshold",
            "invoice.issued",
            "dunning.step",
            "compensation.granted",
        ],
        notify.take,
        gather_s=UNHURRIED_S,
    )
    service.background("delivery", delivery.run)
    service.background("reconciliation", reconciliation(service).run)
    service.run()
