"""What a subscriber is told about a payment. Pure.

A message's id is derived from the event and the recipient: however often it is made or sent again,
the gateway knows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAMESPACE = uuid.UUID("6b0f4f7c-58a8-4b0e-9d43-0a5f3d1c7e52")
TEXTS = {
    "payment.settled": ("payment-settled", "Your top-up of {amount} has arrived. Payment {payment_id}."),
    "payment.failed": ("payment-failed", "Your top-up of {amount} was not taken. Payment {payment_id}."),
}


@dataclass(frozen=True)
class Message:
    """One notice to one recipient."""

    id: uuid.UUID
    event_id: uuid.UUID
    recipient: str
    template: str
    body: str


def recipient_of(subscriber: int) -> str:
    """How the gateway addresses a subscriber."""
    return f"sub:{subscriber}"


def message_for(subject: str, event: Mapping[str, Any]) -> Message:
    """The notice about an event. KeyError when the event lacks a field."""
    template, text = TEXTS[subject]
    event_id = uuid.UUID(event["event_id"])
    recipient = recipient_of(event["subscriber"])
    whole, hundredths = divmod(event["amount_minor"], 100)
    return Message(
        id=uuid.uuid5(NAMESPACE, f"{event_id}/{recipient}"),
        event_id=event_id,
        recipient=recipient,
        template=template,
        body=text.format(amount=f"{whole}.{hundredths:02d}", payment_id=event["payment_id"]),
    )
