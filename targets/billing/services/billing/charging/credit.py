"""Event charging: an amount is debited at once, or refused."""

from __future__ import annotations

from typing import Any

from billing.charging.books import CONTENT, Books
from billing.charging.ledger import main_account
from billing.charging.requests import Debit, Reply
from billing.common import Problem


def charge(books: Books, debit: Debit, epoch: int) -> Reply | Problem:
    """Decide a debit by what the ones before it in the batch have left. A Problem is not stored."""
    if not books.knows(debit.subscriber):
        return Problem(404, "no such subscriber", str(debit.subscriber))
    name = main_account(debit.subscriber)
    if books.left_minor(name) < debit.amount_minor:
        return Reply(debit.fingerprint, 402, over_limit(debit))
    item = books.move(
        "charge", debit.key, debit.key, debit.amount_minor, source=name, to=CONTENT, epoch=epoch
    )
    balance_minor = books.left_minor(name) - books.accounts[name].credit_limit_minor
    return Reply(debit.fingerprint, 201, {"transaction_id": str(item.id), "balance_minor": balance_minor})


def over_limit(debit: Debit) -> dict[str, Any]:
    detail = f"subscriber {debit.subscriber} may not spend {debit.amount_minor}"
    return {"type": "about:blank", "title": "over the limit", "status": 402, "detail": detail}
