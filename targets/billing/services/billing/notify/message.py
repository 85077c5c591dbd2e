"""What a subscriber is told about an event. Pure.

A message's id is derived from the event and the recipient: however often it is made or sent again,
the gateway knows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

NAMESPACE = uuid.UUID("6b0f4f7c-58a8-4b0e-9d43-0a5f3d1c7e52")

Fields = Mapping[str, Any]


class Urgency(IntEnum):
    """Who goes first when there is more to send than can be sent."""

    PAYMENT = 0
    SERVICE = 1
    CAMPAIGN = 2


@dataclass(frozen=True)
class Message:
    """One notice to one recipient."""

    id: uuid.UUID
    event_id: uuid.UUID
    recipient: str
    template: str
    body: str
    urgency: Urgency


def recipient_of(subscriber: int) -> str:
    """How the gateway addresses a subscriber."""
    return f"sub:{subscriber}"


def money(amount_minor: int) -> str:
    """An amount as people write it: 12.05."""
    whole, hundredths = divmod(abs(amount_minor), 100)
    return f"{'-' if amount_minor < 0 else ''}{whole}.{hundredths:02d}"


def _settled(event: Fields) -> str:
    what = {"invoice": "payment of your invoice", "voucher": "voucher", "agent": "payment in cash"}.get(
        event.get("kind", "topup"), "top-up"
    )
    return f"Your {what} of {money(event['amount_minor'])} has arrived. Payment {event['payment_id']}."


def _failed(event: Fields) -> str:
    return f"Your payment of {money(event['amount_minor'])} was not taken. Payment {event['payment_id']}."


def _refunded(event: Fields) -> str:
    return f"{money(event['amount_minor'])} was given back to you. Payment {event['payment_id']}."


def _threshold(event: Fields) -> str:
    used, quota = event["used_units"], event["quota_units"]
    return f"You have used {event['percent']} % of your {event['service']}: {used} of {quota}."


def _issued(event: Fields) -> str:
    return f"Invoice {event['number']}: {money(event['total_minor'])}, due {event['due_at']}."


def _dunning(event: Fields) -> str:
    asked = {1: "Please pay", 2: "Please pay at last", 3: "Your line will be barred unless you pay"}
    return f"{asked[event['step']]}: invoice {event['number']}, {money(event['open_minor'])} open."


def _compensated(event: Fields) -> str:
    return f"We are sorry for the outage. {money(event['amount_minor'])} was credited to you."


# By subject: how urgent it is, and what is said. The template is the subject with hyphens.
NOTICES: Mapping[str, tuple[Urgency, Callable[[Fields], str]]] = {
    "payment.settled": (Urgency.PAYMENT, _settled),
    "payment.failed": (Urgency.PAYMENT, _failed),
    "payment.refunded": (Urgency.PAYMENT, _refunded),
    "quota.threshold": (Urgency.SERVICE, _threshold),
    "invoice.issued": (Urgency.SERVICE, _issued),
    "dunning.step": (Urgency.SERVICE, _dunning),
    "compensation.granted": (Urgency.SERVICE, _compensated),
}
# Whoever sent these waits to hear that they were delivered.
REPORTED = ("invoice-issued", "dunning-step")


def template_of(subject: str) -> str:
    return subject.replace(".", "-")


def message_for(subject: str, event: Fields) -> Message:
    """The notice about an event. KeyError when the event lacks a field, or has a value never heard of."""
    urgency, text = NOTICES[subject]
    event_id = uuid.UUID(event["event_id"])
    recipient = recipient_of(event["subscriber"])
    return Message(
        message_id(event_id, recipient), event_id, recipient, template_of(subject), text(event), urgency
    )


def campaign_message(event_id: uuid.UUID, subscriber: int, body: str) -> Message:
    """One recipient's copy of a mass message."""
    recipient = recipient_of(subscriber)
    identity = message_id(event_id, recipient)
    return Message(identity, event_id, recipient, "campaign", body, Urgency.CAMPAIGN)


def message_id(event_id: uuid.UUID, recipient: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, f"{event_id}/{recipient}")
