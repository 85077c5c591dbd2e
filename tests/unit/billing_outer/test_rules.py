"""The pure rules of mediation and notify."""

from __future__ import annotations

from billing.notify.message import message_for


def test_a_message_is_the_same_however_often_it_is_made() -> None:
    event = {
        "event_id": "0b1e4a4e-7f0a-4b7c-8a55-2f5c2f0f1d11",
        "payment_id": "p-1",
        "subscriber": 7,
        "amount_minor": 1205,
    }
    message = message_for("payment.settled", event)
    assert message == message_for("payment.settled", dict(event))
    assert (message.recipient, message.template) == ("sub:7", "payment-settled")
    assert "12.05" in message.body and "p-1" in message.body
    assert message.id != message_for("payment.settled", {**event, "subscriber": 8}).id
