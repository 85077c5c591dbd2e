"""What happened elsewhere, as ledger transfers: payments settled, usage rated, settlements closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from billing.charging.ledger import Transfer, main_account, post, transfer
from billing.common import Event, Session

SUBJECTS = ("payment.settled", "cdr.rated", "settlement.closed")


async def handle(session: Session, events: Sequence[Event]) -> None:
    """Apply a batch in the transaction that has its inbox rows."""
    transfers = [transfer_of(event) for event in events]
    await post(session, [item for item in transfers if item is not None])


def transfer_of(event: Event) -> Transfer | None:
    """The transfer of an event; None when it moves nothing. Raises on fields that make no sense."""
    fields = event.payload
    match event.subject:
        case "payment.settled":
            payment_id = str(fields["payment_id"])
            if fields["psp"] not in ("psp_a", "psp_b"):
                raise ValueError(f"unknown psp {fields['psp']!r}")
            return transfer(
                "topup", payment_id, str(fields["key"]), _amount(fields, "amount_minor", at_least=1),
                source=f"{fields['psp']}:cash", to=main_account(int(fields["subscriber"])),
            )  # fmt: skip
        case "cdr.rated":
            record_id, charge_minor = str(fields["record_id"]), _amount(fields, "charge_minor", at_least=0)
            return transfer(
                "usage", record_id, record_id, charge_minor,
                source=main_account(int(fields["subscriber"])), to="revenue:usage",
            )  # fmt: skip
        case "settlement.closed":
            return _settlement(fields)
        case _:
            raise ValueError(f"no transfer is known for {event.subject}")


def _settlement(fields: dict[str, Any]) -> Transfer | None:
    """Out: the partner owes us. In: we owe the partner. Nothing to post when nobody owes anything."""
    partner, direction = str(fields["partner"]), fields["direction"]
    reference = f"{fields['period']}:{partner}:{direction}"
    total_minor = _amount(fields, "total_minor", at_least=0)
    if total_minor == 0:
        return None
    if direction == "out":
        source, to = f"partner:{partner}:receivable", "revenue:roaming"
    elif direction == "in":
        source, to = "cost:roaming", f"partner:{partner}:payable"
    else:
        raise ValueError(f"direction must be out or in, not {direction!r}")
    return transfer("settlement", reference, reference, total_minor, source=source, to=to)


def _amount(fields: dict[str, Any], name: str, *, at_least: int) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a whole number from {at_least}, not {value!r}")
    return value
