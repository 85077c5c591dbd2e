"""What happened elsewhere, as ledger transfers: payments, rated usage, settlements, compensations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from billing.charging.ledger import Leg, Transfer, main_account, post, transfer
from billing.common import Event, Session

SUBJECTS = (
    "payment.settled",
    "payment.refunded",
    "cdr.rated",
    "cdr.reversed",
    "compensation.granted",
    "settlement.closed",
    "settlement.netted",
)
# Accounts of another currency than that of our own subscribers bear it in their name.
SUFFIXES = {"EUR": "", "USD": ":usd"}


PSP_CASH = {"psp_a": "psp_a:cash", "psp_b": "psp_b:cash"}
# Kind of payment: kind of transaction, and where the money of each channel comes from.
PAYMENTS = {
    "topup": ("topup", PSP_CASH),
    "invoice": ("invoice_payment", PSP_CASH),
    "voucher": ("voucher", {"voucher": "voucher:liability"}),
    "agent": ("agent", {"agent": "agent:cash"}),
}


async def handle(session: Session, events: Sequence[Event]) -> None:
    """Apply a batch in the transaction that has its inbox rows."""
    transfers = [transfer_of(event) for event in events]
    await post(session, [item for item in transfers if item is not None])


def transfer_of(event: Event) -> Transfer | None:
    """The transfer of an event; None when it moves nothing. Raises on fields that make no sense."""
    fields = event.payload
    match event.subject:
        case "payment.settled":
            return _payment(fields)
        case "payment.refunded":
            return transfer(
                "refund", str(fields["refund_id"]), str(fields["key"]),
                _amount(fields, "amount_minor", at_least=1),
                source=main_account(int(fields["subscriber"])), to=PSP_CASH[fields["psp"]],
            )  # fmt: skip
        case "cdr.rated" | "cdr.reversed":
            return _usage(event.subject, fields)
        case "compensation.granted":
            outage_id, subscriber = str(fields["outage_id"]), int(fields["subscriber"])
            reference = f"{outage_id}:{subscriber}"
            return transfer(
                "compensation", reference, reference, _amount(fields, "amount_minor", at_least=1),
                source="cost:compensation", to=main_account(subscriber),
            )  # fmt: skip
        case "settlement.closed":
            return _settlement(fields)
        case "settlement.netted":
            return _netting(fields)
        case _:
            raise ValueError(f"no transfer is known for {event.subject}")


def _payment(fields: dict[str, Any]) -> Transfer:
    kind, sources = PAYMENTS[fields["kind"]]
    if fields["psp"] not in sources:
        raise ValueError(f"no payment of kind {fields['kind']!r} comes through {fields['psp']!r}")
    return transfer(
        kind, str(fields["payment_id"]), str(fields["key"]), _amount(fields, "amount_minor", at_least=1),
        source=sources[fields["psp"]], to=main_account(int(fields["subscriber"])),
    )  # fmt: skip


def _usage(subject: str, fields: dict[str, Any]) -> Transfer:
    """A rating debits; its reversal gives back. Each rating of a record has a reference of its own."""
    record_id, rating = str(fields["record_id"]), _amount(fields, "rating", at_least=1)
    charge_minor = _amount(fields, "charge_minor", at_least=0)
    main = main_account(int(fields["subscriber"]))
    if subject == "cdr.rated":
        reference = record_id if rating == 1 else f"{record_id}#{rating}"
        return transfer("usage", reference, record_id, charge_minor, source=main, to="revenue:usage")
    reference = f"{record_id}#{rating}"
    return transfer("usage_reversal", reference, record_id, charge_minor, source="revenue:usage", to=main)


def _settlement(fields: dict[str, Any]) -> Transfer | None:
    """Out: the partner owes us. In: we owe the partner. Nothing to post when nobody owes anything."""
    partner, direction, suffix = str(fields["partner"]), fields["direction"], SUFFIXES[fields["currency"]]
    reference = f"{fields['period']}:{partner}:{direction}"
    total_minor = _amount(fields, "total_minor", at_least=0)
    if total_minor == 0:
        return None
    if direction == "out":
        source, to = f"partner:{partner}:receivable", f"revenue:roaming{suffix}"
    elif direction == "in":
        source, to = f"cost:roaming{suffix}", f"partner:{partner}:payable"
    else:
        raise ValueError(f"direction must be out or in, not {direction!r}")
    return transfer("settlement", reference, reference, total_minor, source=source, to=to)


def _netting(fields: dict[str, Any]) -> Transfer | None:
    """What both owe each other becomes what one of them owes the other."""
    partner, reference = str(fields["partner"]), f"{fields['period']}:{fields['partner']}"
    receivable_minor = _amount(fields, "receivable_minor", at_least=0)
    payable_minor = _amount(fields, "payable_minor", at_least=0)
    moved = {
        f"partner:{partner}:receivable": receivable_minor,
        f"partner:{partner}:payable": -payable_minor,
        f"partner:{partner}:net": payable_minor - receivable_minor,
    }
    legs = tuple(Leg(account, amount_minor) for account, amount_minor in moved.items() if amount_minor)
    return Transfer(uuid4(), "netting", reference, reference, legs) if legs else None


def _amount(fields: dict[str, Any], name: str, *, at_least: int) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a whole number from {at_least}, not {value!r}")
    return value
