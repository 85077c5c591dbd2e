"""Notices in the database: stored once per event and recipient."""

from __future__ import annotations

from collections.abc import Sequence

from billing.common import Session
from billing.notify.message import Message

_INSERT = """
insert into notification (id, event_id, recipient, template, body, urgency)
select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[])
on conflict do nothing"""


async def keep(session: Session, messages: Sequence[Message]) -> None:
    """Store notices; one that is there already stays as it is."""
    await session.execute(
        _INSERT,
        [message.id for message in messages],
        [message.event_id for message in messages],
        [message.recipient for message in messages],
        [message.template for message in messages],
        [message.body for message in messages],
        [int(message.urgency) for message in messages],
    )
