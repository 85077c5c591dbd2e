"""What a batch of the till sees and moves: accounts, buckets, sessions, all of them locked.

Every batch, and every sweep of expired sessions, first locks the account that all of them have in common
(``GATE``): they follow one another, also those of an earlier incarnation whose commit is still under way. The
other accounts follow in the order of their names, as everywhere. Decisions are made in memory, each seeing
what the ones before it have taken; ``save`` writes the result in a few statements.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4, uuid5

from billing.charging.ledger import (
    Account,
    Transfer,
    claim,
    lock_accounts,
    main_account,
    reserved_account,
    transfer,
    write_postings,
)
from billing.common import Outbox, Session

CONTENT = "revenue:content"
SESSIONS = "revenue:sessions"
GATE = CONTENT
PERCENTS = (80, 100)
MICRO = 1_000_000

# Event ids of crossings are made from it: the same crossing, told twice, is one event.
_CROSSINGS = UUID("0b9a5c56-6f0e-4f5a-9f0c-5d7b1b6a3f10")

State = Literal["open", "closed", "expired"]
Ending = Literal["open", "posted", "released", "expired"]


@dataclass
class Bucket:
    """Units that the subscription includes, of one subscriber and service; and what more of them cost."""

    subscriber: int
    service: str
    quota_units: int
    used_units: int
    reserved_units: int
    price_micro: int

    @property
    def name(self) -> str:
        return f"{self.subscriber}:{self.service}"

    @property
    def free_units(self) -> int:
        return self.quota_units - self.used_units - self.reserved_units

    def price_minor(self, units: int) -> int:
        """What used units cost: half up."""
        return (units * self.price_micro + MICRO // 2) // MICRO

    def held_minor(self, units: int) -> int:
        """What must be held for units: rounded up, so that no use of them costs more."""
        return -(-units * self.price_micro // MICRO)

    def affordable_units(self, left_minor: int) -> int:
        """How many units an amount can be held for."""
        return max(0, left_minor) * MICRO // self.price_micro

    def crossed(self, before_units: int) -> list[int]:
        """The thresholds that the last use has reached, in percent of the quota."""
        return [p for p in PERCENTS if before_units * 100 < self.quota_units * p <= self.used_units * 100]


@dataclass
class Reservation:
    """Units granted to a session until they are used, given back, or too late. Fields as in the table."""

    id: UUID
    session_id: str
    request_number: int
    bucket_units: int
    paid_units: int
    held_minor: int
    epoch: int | None
    state: Ending = "open"
    used_bucket_units: int = 0
    used_paid_units: int = 0
    charged_minor: int = 0


@dataclass
class CreditSession:
    """A session of the access network. ``reservation``: the open one. ``due``: its time is over."""

    id: str
    subscriber: int
    service: str
    state: State = "open"
    last_request: int = 0
    used_units: int = 0
    charged_minor: int = 0
    leaked_units: int = 0
    leaked_minor: int = 0
    reservation: Reservation | None = None
    due: bool = False


@dataclass(frozen=True)
class Crossing:
    """The use of a bucket has reached a threshold, with ``used_units``."""

    bucket: Bucket
    percent: int
    used_units: int

    def event(self) -> tuple[UUID, dict[str, Any]]:
        """Its id, the same whenever it is told, and its payload."""
        bucket = self.bucket
        payload = {
            "bucket": bucket.name,
            "subscriber": bucket.subscriber,
            "service": bucket.service,
            "percent": self.percent,
            "used_units": self.used_units,
            "quota_units": bucket.quota_units,
        }
        return uuid5(_CROSSINGS, f"{bucket.name}:{self.percent}"), payload


@dataclass
class Books:
    """``left_minor`` of an account: what may be taken from it as things stand in the batch."""

    accounts: dict[str, Account]
    buckets: dict[tuple[int, str], Bucket]
    sessions: dict[str, CreditSession]
    transfers: list[Transfer] = field(default_factory=list)
    touched: dict[str, CreditSession] = field(default_factory=dict)
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    crossings: list[Crossing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = {name: account.spendable_minor for name, account in self.accounts.items()}

    def left_minor(self, name: str) -> int:
        return self._left[name]

    def knows(self, subscriber: int) -> bool:
        return main_account(subscriber) in self.accounts

    def move(
        self,
        kind: str,
        reference: str,
        key: str,
        amount_minor: int,
        *,
        source: str,
        to: str,
        epoch: int | None,
    ) -> Transfer:
        """Put a transfer on the batch's list, unless it moves nothing."""
        item = transfer(kind, reference, key, amount_minor, source=source, to=to, epoch=epoch)
        if amount_minor:
            self._left[source] -= amount_minor
            self._left[to] += amount_minor
            self.transfers.append(item)
        return item

    # -- reservations -------------------------------------------------------------------------

    def grant(self, session: CreditSession, number: int, units: int, epoch: int | None) -> int:
        """Reserve up to so many units: the bucket's first, then such as money can be held for.

        Returns how many; where there are none, nothing is reserved.
        """
        bucket = self.buckets[session.subscriber, session.service]
        main = main_account(session.subscriber)
        from_bucket = min(units, bucket.free_units)
        paid = min(units - from_bucket, bucket.affordable_units(self.left_minor(main)))
        if from_bucket + paid == 0:
            return 0
        made = Reservation(uuid4(), session.id, number, from_bucket, paid, bucket.held_minor(paid), epoch)
        bucket.reserved_units += from_bucket
        reserved = reserved_account(session.subscriber)
        self.move("reserve", str(made.id), session.id, made.held_minor, source=main, to=reserved, epoch=epoch)
        session.reservation = self.reservations[made.id] = made
        return from_bucket + paid

    def end(self, session: CreditSession, used_units: int, ending: Ending | None = None) -> int:
        """End the open reservation: charge what was used of it, give back the rest.

        Returns how many of the used units it did not cover.
        """
        ended = session.reservation
        if ended is None:
            return used_units
        session.reservation = None
        bucket = self.buckets[session.subscriber, session.service]
        ended.used_bucket_units = min(used_units, ended.bucket_units)
        ended.used_paid_units = min(used_units - ended.used_bucket_units, ended.paid_units)
        ended.charged_minor = bucket.price_minor(ended.used_paid_units)
        ended.state = ending or ("posted" if used_units else "released")
        self.reservations[ended.id] = ended
        bucket.reserved_units -= ended.bucket_units
        self._use(bucket, ended.used_bucket_units)
        session.charged_minor += ended.charged_minor
        reserved, reference = reserved_account(session.subscriber), str(ended.id)
        self.move(
            "session", reference, session.id, ended.charged_minor, source=reserved, to=SESSIONS, epoch=None
        )
        self.move(
            "release", reference, session.id, ended.held_minor - ended.charged_minor,
            source=reserved, to=main_account(session.subscriber), epoch=None,
        )  # fmt: skip
        return used_units - ended.used_bucket_units - ended.used_paid_units

    def _use(self, bucket: Bucket, units: int) -> None:
        before = bucket.used_units
        bucket.used_units += units
        self.crossings += [Crossing(bucket, percent, bucket.used_units) for percent in bucket.crossed(before)]

    def touch(self, session: CreditSession) -> None:
        """It is to be saved; a session that is open has its time again."""
        self.sessions[session.id] = self.touched[session.id] = session


# -- reading and writing --------------------------------------------------------------------------

_SUBSCRIBERS = "select subscriber from session where id = any($1::text[])"

# One round trip for all there is to know of sessions, while they are locked.
_SESSIONS = """
select s.id, s.subscriber, s.service, s.state, s.last_request, s.used_units, s.charged_minor, s.leaked_units,
       s.leaked_minor, s.state = 'open' and s.expires_at <= clock_timestamp() as due,
       r.id as reservation_id, r.request_number, r.bucket_units, r.paid_units, r.held_minor, r.epoch
from session s left join reservation r on r.session_id = s.id and r.state = 'open'
where s.id = any($1::text[]) order by s.id for update of s"""

_BUCKETS = """
select b.subscriber, b.service, b.quota_units, b.used_units, b.reserved_units,
       p.price_micro_per_unit as price_micro
from bucket b join price p using (service) where b.subscriber = any($1::bigint[])
order by b.subscriber, b.service for update of b"""

_SAVE = """
with s as (
  insert into session (id, subscriber, service, state, last_request, used_units, charged_minor, leaked_units,
                       leaked_minor, expires_at, ended_at)
  select id, subscriber, service, state, last_request, used_units, charged_minor, leaked_units, leaked_minor,
         clock_timestamp() + make_interval(secs => $4), case when state <> 'open' then clock_timestamp() end
  from jsonb_to_recordset($1::jsonb) as t (
    id text, subscriber bigint, service text, state text, last_request int, used_units bigint,
    charged_minor bigint, leaked_units bigint, leaked_minor bigint)
  on conflict (id) do update set
    state = excluded.state, last_request = excluded.last_request, used_units = excluded.used_units,
    charged_minor = excluded.charged_minor, leaked_units = excluded.leaked_units,
    leaked_minor = excluded.leaked_minor, ended_at = coalesce(session.ended_at, excluded.ended_at),
    expires_at = case when excluded.state = 'open' then excluded.expires_at else session.expires_at end),
r as (
  insert into reservation (id, session_id, request_number, state, bucket_units, paid_units, held_minor,
                           used_bucket_units, used_paid_units, charged_minor, epoch, expires_at, ended_at)
  select id, session_id, request_number, state, bucket_units, paid_units, held_minor, used_bucket_units,
         used_paid_units, charged_minor, epoch, clock_timestamp() + make_interval(secs => $4),
         case when state <> 'open' then clock_timestamp() end
  from jsonb_to_recordset($2::jsonb) as t (
    id uuid, session_id text, request_number int, state text, bucket_units bigint, paid_units bigint,
    held_minor bigint, used_bucket_units bigint, used_paid_units bigint, charged_minor bigint, epoch bigint)
  order by (state = 'open')  -- a session's last one ends before its next one is there
  on conflict (id) do update set
    state = excluded.state, used_bucket_units = excluded.used_bucket_units,
    used_paid_units = excluded.used_paid_units, charged_minor = excluded.charged_minor,
    ended_at = excluded.ended_at)
update bucket b set used_units = t.used_units, reserved_units = t.reserved_units
from jsonb_to_recordset($3::jsonb) as t (
  subscriber bigint, service text, used_units bigint, reserved_units bigint)
where b.subscriber = t.subscriber and b.service = t.service"""


async def subscribers_of(session: Session, session_ids: Sequence[str]) -> set[int]:
    """Whose sessions these are; that never changes, so it may be read before anything is locked."""
    if not session_ids:
        return set()
    return {row["subscriber"] for row in await session.fetch(_SUBSCRIBERS, list(session_ids))}


async def open_books(
    session: Session, subscribers: Iterable[int], session_ids: Sequence[str] | None
) -> Books:
    """Lock and read. ``session_ids`` None: no sessions, no buckets; only what debits need."""
    who = sorted(set(subscribers))
    names = {GATE, *(main_account(n) for n in who)}
    if session_ids is None:
        return Books(await lock_accounts(session, names, open_missing=False), {}, {})
    names |= {SESSIONS, *(reserved_account(n) for n in who)}
    accounts = await lock_accounts(session, names, open_missing=False)
    sessions = {row["id"]: _session(row) for row in await session.fetch(_SESSIONS, list(session_ids))}
    buckets = [Bucket(**dict(row)) for row in await session.fetch(_BUCKETS, who)]
    return Books(accounts, {(b.subscriber, b.service): b for b in buckets}, sessions)


def _session(row: Any) -> CreditSession:
    found = CreditSession(
        row["id"], row["subscriber"], row["service"], row["state"], row["last_request"], row["used_units"],
        row["charged_minor"], row["leaked_units"], row["leaked_minor"], due=row["due"],
    )  # fmt: skip
    if row["reservation_id"] is not None:
        found.reservation = Reservation(
            row["reservation_id"], row["id"], row["request_number"], row["bucket_units"], row["paid_units"],
            row["held_minor"], row["epoch"],
        )  # fmt: skip
    return found


async def save(session: Session, books: Books, outbox: Outbox, validity_s: float) -> None:
    """Write what was decided: the ledger, sessions with reservations and buckets, events."""
    if books.transfers:
        if len(await claim(session, books.transfers)) < len(books.transfers):
            raise RuntimeError("what has no stored reply is in the ledger already")
        await write_postings(session, books.transfers, books.accounts)
    if books.touched:
        await session.execute(
            _SAVE,
            json.dumps([_columns(one, "reservation", "due") for one in books.touched.values()]),
            json.dumps([_columns(one) for one in books.reservations.values()]),
            json.dumps([vars(one) for one in _changed_buckets(books)]),
            validity_s,
        )
    if books.crossings:
        await outbox.add_all(session, "quota.threshold", [crossing.event() for crossing in books.crossings])


def _changed_buckets(books: Books) -> list[Bucket]:
    names = {(one.subscriber, one.service) for one in books.touched.values()}
    return [books.buckets[name] for name in names]


def _columns(item: CreditSession | Reservation, *left_out: str) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, UUID) else value
        for name, value in vars(item).items()
        if name not in left_out
    }
