"""The price lists in force, read when they have changed, and held while somebody rates by them.

A correction is loaded only when nobody rates, and whoever rates afterwards sees it: so no rating by the
old prices can come after the run that puts those right has looked for them.
"""

from __future__ import annotations

from billing.common import Session
from billing.mediation.tariff import PriceBook, Tariff

HOLD = "select pg_advisory_xact_lock_shared(hashtext('mediation.tariff'))"
_CHANGE = "select pg_advisory_xact_lock(hashtext('mediation.tariff'))"

# Statements of their own: their snapshots are taken after the lock.
_CORRECTIONS = "select coalesce(array_agg(id order by id), '{}') from rerating"
_IN_FORCE = """
select id, service, partner, currency, time_zone, valid_from, valid_to, peak_from, peak_to,
       price_micro_per_unit, peak_price_micro_per_unit, increment, revision
from tariff where correction is null or correction = any($1::text[])"""
_LOAD = """
insert into rerating (id, state)
select $1, 'correcting' where exists (select from tariff where correction = $1) on conflict do nothing"""


class Prices:
    """What this process knows of the price lists."""

    def __init__(self) -> None:
        self._corrections: list[str] | None = None
        self._book = PriceBook()

    async def hold(self, session: Session) -> PriceBook:
        """The price lists that are in force until the transaction ends."""
        await session.execute(HOLD)
        return await self.held(session)

    async def held(self, session: Session) -> PriceBook:
        """The same, in a transaction in which an earlier statement did ``HOLD``."""
        corrections = list(await session.fetchval(_CORRECTIONS))
        if corrections != self._corrections:
            self._book = PriceBook(Tariff(**row) for row in await session.fetch(_IN_FORCE, corrections))
            self._corrections = corrections
        return self._book


async def load_correction(session: Session, correction: str) -> None:
    """Put a correction in force, if there is one of that name and it is not yet."""
    await session.execute(_CHANGE)
    await session.execute(_LOAD, correction)
