"""What customers are told: shown at once, from memory; stored as soon as the database takes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from billing.common import Database, Problem, Record, instant_field, is_infrastructure, text_field

KINDS = ("maintenance", "outage", "restoration")
SHOWN = 20
REFRESH_S = 1.0

_STORE = """
insert into announcement (id, kind, message, starts_at, ends_at, published_at)
values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing"""

_NEWEST = f"""
select id, kind, message, starts_at, ends_at, published_at from announcement
where ends_at is null or ends_at > clock_timestamp() order by published_at desc limit {SHOWN}"""


@dataclass(frozen=True)
class Announcement:
    id: UUID
    kind: str
    message: str
    starts_at: datetime
    ends_at: datetime | None
    published_at: datetime

    def public(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "kind": self.kind,
            "message": self.message,
            "starts_at": self.starts_at.isoformat(),
            "ends_at": None if self.ends_at is None else self.ends_at.isoformat(),
        }


class Board:
    """The announcements in force; ``run`` is a background task."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: list[Announcement] = []
        self._unstored: list[Announcement] = []

    def shown(self) -> list[dict[str, Any]]:
        """Newest first."""
        now = datetime.now(UTC)
        # One whose storing ended in doubt may be among both.
        known = {a.id: a for a in (*self._unstored, *self._stored) if a.ends_at is None or a.ends_at > now}
        return [a.public() for a in list(known.values())[:SHOWN]]

    async def publish(self, body: dict[str, Any]) -> tuple[Announcement, bool]:
        """Show an announcement; whether it is stored already. Raises Problem."""
        announcement = _announcement(body)
        self._unstored.insert(0, announcement)
        await self._store()
        return announcement, announcement not in self._unstored

    async def run(self) -> None:
        while True:
            await self._store()
            try:
                self._stored = [_of_row(row) for row in await self._database.fetch(_NEWEST)]
            except Exception as error:
                if not is_infrastructure(error):
                    raise
            await asyncio.sleep(REFRESH_S)

    async def _store(self) -> None:
        """What cannot be stored now stays for the next round."""
        for item in list(reversed(self._unstored)):
            fields = (item.id, item.kind, item.message, item.starts_at, item.ends_at, item.published_at)
            try:
                await self._database.execute(_STORE, *fields)
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                return
            if item in self._unstored:
                self._unstored.remove(item)
                self._stored.insert(0, item)


def _announcement(body: dict[str, Any]) -> Announcement:
    if body.get("kind") not in KINDS:
        raise Problem(400, "malformed body", f"kind must be one of {KINDS}, not {body.get('kind')!r}")
    now = datetime.now(UTC)
    starts_at, ends_at = (
        instant_field(body, name) if body.get(name) is not None else None for name in ("starts_at", "ends_at")
    )
    starts_at = starts_at or now
    if ends_at is not None and ends_at <= starts_at:
        raise Problem(400, "malformed body", "ends_at must be after starts_at")
    message = text_field(body, "message", longest=1000)
    return Announcement(uuid4(), body["kind"], message, starts_at, ends_at, now)


def _of_row(row: Record) -> Announcement:
    return Announcement(
        row["id"], row["kind"], row["message"], row["starts_at"], row["ends_at"], row["published_at"]
    )
