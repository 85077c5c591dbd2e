"""What a batch sees and moves: accounts, buckets, sessions, as ``batches`` read them.

Decisions are made in memory, each seeing what the ones before it have taken; what they changed is written
when the batch ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4, uuid5

from billing.charging.ledger import Account, Transfer, main_account, reserved_account, transfer
from billing.charging.requests import Reply

CONTENT = "revenue:content"
SESSIONS = "revenue:sessions"
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
    """What was read, and what has become of it.

    ``accounts``: the main accounts of those concerned. ``left_minor`` of one: what may be taken from it as
    things stand in the batch. ``stored``: replies given before; ``replies``: those to be stored. ``epoch``:
    of the mode in force; None in a lockdown. ``asks``: something decided here needs admission under it.
    """

    accounts: dict[str, Account]
    buckets: dict[tuple[int, str], Bucket]
    sessions: dict[str, CreditSession]
    epoch: int | None = None
    stored: Mapping[str, Reply] = field(default_factory=dict)
    asks: bool = False
    replies: dict[str, Reply] = field(default_factory=dict)
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
            for account, moved_minor in ((source, -amount_minor), (to, amount_minor)):
                if account in self._left:
                    self._left[account] += moved_minor
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

    def touched_buckets(self) -> list[Bucket]:
        names = {(one.subscriber, one.service) for one in self.touched.values()}
        return [self.buckets[name] for name in names]
