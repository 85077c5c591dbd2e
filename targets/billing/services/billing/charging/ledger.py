"""Posting to the ledger.

A transfer's legs sum to 0. Per account, versions count 1, 2, 3 ... in the order of commits, and each
posting carries the balance after it. ``(kind, reference)`` makes a transfer happen at most once.
The database's function ``charging.post`` (``schema/31_charging_books.sql``) keeps all of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from billing.common import Session


@dataclass(frozen=True)
class Leg:
    account: str
    amount_minor: int


@dataclass(frozen=True)
class Transfer:
    """``kind`` and ``reference`` name it; ``key`` is the client's, or the reference again.

    ``epoch``: of the mode that admitted it; None: it was not asked for admission.
    """

    id: UUID
    kind: str
    reference: str
    key: str
    legs: tuple[Leg, ...]
    epoch: int | None = None

    def __post_init__(self) -> None:
        if sum(leg.amount_minor for leg in self.legs) != 0:
            raise ValueError(f"the legs of {self.kind} {self.reference} do not sum to 0: {self.legs}")


def transfer(
    kind: str,
    reference: str,
    key: str,
    amount_minor: int,
    *,
    source: str,
    to: str,
    epoch: int | None = None,
) -> Transfer:
    """A transfer of two legs: ``amount_minor`` leaves ``source`` and arrives at ``to``."""
    legs = (Leg(source, -amount_minor), Leg(to, amount_minor))
    return Transfer(uuid4(), kind, reference, key, legs, epoch)


def main_account(subscriber: int) -> str:
    return f"sub:{subscriber}:main"


def reserved_account(subscriber: int) -> str:
    return f"sub:{subscriber}:reserved"


@dataclass
class Account:
    """An account as it was read."""

    balance_minor: int
    credit_limit_minor: int
    version: int

    @property
    def spendable_minor(self) -> int:
        return self.balance_minor + self.credit_limit_minor


_POST = "select post($1::jsonb, $2::jsonb)"


async def post(session: Session, transfers: Sequence[Transfer]) -> None:
    """Post what was not posted before, in the given order; accounts never seen are opened."""
    if transfers:
        await session.execute(_POST, json.dumps(rows_of(transfers)), json.dumps(legs_of(transfers)))


def rows_of(transfers: Sequence[Transfer]) -> list[dict[str, Any]]:
    """The first argument of ``charging.post``."""
    return [
        {
            "id": str(item.id),
            "kind": item.kind,
            "reference": item.reference,
            "key": item.key,
            "epoch": item.epoch,
        }
        for item in transfers
    ]


def legs_of(transfers: Sequence[Transfer]) -> list[dict[str, Any]]:
    """The second argument of ``charging.post``."""
    return [
        {"transaction_id": str(item.id), "account_id": leg.account, "amount_minor": leg.amount_minor}
        for item in transfers
        for leg in item.legs
    ]
