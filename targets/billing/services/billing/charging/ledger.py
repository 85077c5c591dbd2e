"""Posting to the ledger.

A transfer's legs sum to 0. Per account, versions count 1, 2, 3 ... in the order of commits, and each
posting carries the balance after it. ``(kind, reference)`` makes a transfer happen at most once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    """An account while it is locked."""

    balance_minor: int
    credit_limit_minor: int
    version: int

    @property
    def spendable_minor(self) -> int:
        return self.balance_minor + self.credit_limit_minor


_CLAIM = """
insert into transaction (id, kind, reference, key, epoch)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[])
  t (id, kind, reference, key, epoch)
order by kind, reference
on conflict (kind, reference) do nothing returning id"""

_LOCK = """
select id, balance_minor, credit_limit_minor, version from account
where id = any($1::text[]) order by id for update"""

_OPEN = """
insert into account (id, subscriber)
select id, substring(id from '^sub:([0-9]+):')::bigint from unnest($1::text[]) a (id) order by id
on conflict do nothing"""

_POST = """
with p as (
  insert into posting (transaction_id, account_id, amount_minor, balance_after_minor, account_version)
  select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]))
update account set balance_minor = a.balance, version = a.version
from unnest($6::text[], $7::bigint[], $8::bigint[]) a (id, balance, version) where account.id = a.id"""


async def post(session: Session, transfers: Sequence[Transfer]) -> None:
    """Post what was not posted before, in the given order; accounts never seen are opened."""
    if not transfers:
        return
    claimed = await claim(session, transfers)
    new = [item for item in transfers if item.id in claimed]
    accounts = await lock_accounts(session, {leg.account for item in new for leg in item.legs})
    await write_postings(session, new, accounts)


async def claim(session: Session, transfers: Sequence[Transfer]) -> set[UUID]:
    """Store the transactions' rows. Returns the ids of those that are new."""
    rows = await session.fetch(
        _CLAIM,
        [item.id for item in transfers],
        [item.kind for item in transfers],
        [item.reference for item in transfers],
        [item.key for item in transfers],
        [item.epoch for item in transfers],
    )
    return {row["id"] for row in rows}


async def lock_accounts(
    session: Session, names: Iterable[str], *, open_missing: bool = True
) -> dict[str, Account]:
    """Lock accounts, in the order of their names, and read them."""
    wanted = sorted(names)
    rows = await session.fetch(_LOCK, wanted) if wanted else []
    if open_missing and len(rows) < len(wanted):
        await session.execute(_OPEN, wanted)
        rows = await session.fetch(_LOCK, wanted)
    return {
        row["id"]: Account(row["balance_minor"], row["credit_limit_minor"], row["version"]) for row in rows
    }


async def write_postings(
    session: Session, transfers: Sequence[Transfer], accounts: dict[str, Account]
) -> None:
    """Move the balances of locked accounts and write the postings, all in one statement."""
    postings = []
    for item in transfers:
        for leg in item.legs:
            account = accounts[leg.account]
            account.balance_minor += leg.amount_minor
            account.version += 1
            postings.append((item.id, leg.account, leg.amount_minor, account.balance_minor, account.version))
    if not postings:
        return
    touched = sorted({name for _, name, *_ in postings})
    await session.execute(
        _POST,
        *(list(column) for column in zip(*postings, strict=True)),
        touched,
        [accounts[name].balance_minor for name in touched],
        [accounts[name].version for name in touched],
    )
