"""The run that puts right what a correction of the price lists has changed.

Ratings of our own subscribers' records that the correction concerns are reversed and made anew, in batches of
one transaction; then suspended records that it gave a price are rated. What is left to do is found in the
ratings themselves, so a run that was cut off goes on where it was, and doing a step again changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from billing.common import Bell, Database, Log, Metrics, Outbox, Record, Session
from billing.mediation.cdr import Cdr
from billing.mediation.prices import Prices, load_correction
from billing.mediation.ratings import Rating, Reversal, keep_ratings, keep_reversals, keep_suspended
from billing.mediation.tariff import PriceBook, Rated, Suspended, rate

BATCH = 50
POLL_S = 2.0  # for the runs that another incarnation left; new ones ring the bell

_OPEN = "select id, state from rerating where state <> 'done' order by loaded_at limit 1"
_ADVANCE = """
update rerating set state = $3, finished_at = case when $3 = 'done' then clock_timestamp() end
where id = $1 and state = $2"""
_CONCERNED = """
exists (select from tariff t where t.correction = $1 and t.partner is null and t.service = c.service
        and c.started_at >= t.valid_from and c.started_at < t.valid_to {more})"""
_STALE = f"""
select c.record_id, c.subscriber, c.service, c.units, c.started_at, c.rating, c.charge_minor from cdr_rated c
where c.reversed_at is null and c.visitor_of is null and c.record_id > $2
  and {_CONCERNED.format(more="and t.revision > c.revision")}
order by c.record_id limit {BATCH} for update of c"""
_SUSPENDED = f"""
select c.record_id, c.subscriber, c.service, c.units, c.started_at,
       (select count(*) from cdr_rated r where r.record_id = c.record_id)::int as rating
from suspense s join cdr_raw c using (record_id)
where s.resolved_at is null and s.retried_by is distinct from $1 and c.visitor_of is null and c.record_id > $2
  and {_CONCERNED.format(more="")}
order by c.record_id limit {BATCH} for update of s"""
_RETRIED = "update suspense set retried_by = $1 where record_id = any($2::text[])"
_RESOLVED = "update suspense set resolved_at = clock_timestamp() where record_id = any($1::text[])"
_COUNT = "update rerating set corrected = corrected + $2, resolved = resolved + $3 where id = $1"
_RUN = "select id, state, corrected, resolved from rerating where id = $1"

# (correction, record id after which to look, session) -> the last record id that was dealt with, or None
Batch = Callable[[str, str, Session], Awaitable[str | None]]


class Reratings:
    """``run`` works on open runs for ever; ``start`` begins one or asks."""

    def __init__(
        self, database: Database, outbox: Outbox, metrics: Metrics, log: Log, prices: Prices
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._log = log
        self._prices = prices
        self._bell = Bell()

    async def start(self, correction: str) -> Record | None:
        """Load the correction unless it is loaded; its run, or None when there is no such correction."""
        found = await self._database.fetchrow(_RUN, correction, attempts=2)
        if found is None:
            await self._database.run(lambda session: load_correction(session, correction))
            found = await self._database.fetchrow(_RUN, correction, attempts=2)
            self._bell.ring()
        return found

    async def run(self) -> None:
        while True:
            while open_run := await self._database.fetchrow(_OPEN, attempts=2):
                self._log("rerating.step", correction=open_run["id"], state=open_run["state"])
                await self._step(open_run["id"], open_run["state"])
            await self._bell.wait(POLL_S)

    async def _step(self, correction: str, state: str) -> None:
        batch, following = {
            "correcting": (self.correct, "retrying"),
            "retrying": (self.retry, "done"),
        }[state]
        await self._all(batch, correction)
        await self._database.execute(_ADVANCE, correction, state, following, attempts=2)

    async def _all(self, batch: Batch, correction: str) -> None:
        """Batch after batch in the order of record ids, until nothing is left from the beginning."""
        after = ""
        while True:
            last = await self._database.run(partial(batch, correction, after))
            if last is None and not after:
                return
            after = last or ""

    async def correct(self, correction: str, after: str, session: Session) -> str | None:
        """Reverse and rate anew up to BATCH records, all in this transaction."""
        book = await self._prices.hold(session)
        rows = await session.fetch(_STALE, correction, after)
        if not rows:
            return None
        reversals = [Reversal(_cdr(row), row["rating"], row["charge_minor"]) for row in rows]
        await keep_reversals(session, self._outbox, reversals)
        _, hopeless = await self._rate(session, rows, book)
        await keep_suspended(session, hopeless)
        await session.execute(_COUNT, correction, len(rows), 0)
        self._metrics.add("rerating.corrected", len(rows))
        return str(rows[-1]["record_id"])

    async def retry(self, correction: str, after: str, session: Session) -> str | None:
        """Rate up to BATCH suspended records that have a price now."""
        book = await self._prices.hold(session)
        rows = await session.fetch(_SUSPENDED, correction, after)
        if not rows:
            return None
        rated, _ = await self._rate(session, rows, book)
        await session.execute(_RETRIED, correction, [row["record_id"] for row in rows])
        await session.execute(_RESOLVED, [rating.cdr.record_id for rating in rated])
        await session.execute(_COUNT, correction, 0, len(rated))
        self._metrics.add("rerating.resolved", len(rated))
        return str(rows[-1]["record_id"])

    async def _rate(
        self, session: Session, rows: Sequence[Record], book: PriceBook
    ) -> tuple[list[Rating], list[tuple[Cdr, Suspended]]]:
        """Each row's next rating, kept; and what cannot be rated. ``rating`` is the last one there was."""
        now = datetime.now(UTC)
        results = [(row["rating"] + 1, cdr, rate(cdr, book, now)) for row in rows for cdr in [_cdr(row)]]
        rated = [Rating(cdr, number, r) for number, cdr, r in results if isinstance(r, Rated)]
        await keep_ratings(session, self._outbox, rated)
        return rated, [(cdr, r) for _, cdr, r in results if isinstance(r, Suspended)]


def _cdr(row: Record) -> Cdr:
    return Cdr(row["record_id"], row["subscriber"], row["service"], row["units"], row["started_at"])
