"""Settles a period: collect events into files, transmit the files, post the totals, net them.

One worker, driven by what the database says: whatever ends it, the next one goes on where the rows stand.
Each step is idempotent per item, and moves the run on only when all its items are done.

collecting    events that came before the run began -> files of at most 40, one transaction each
transmitting  each file to its partner, in sequence, until confirmed; what is rejected goes into later files
posting       per partner and direction: the settlement row and its event, in one transaction
netting       per partner: what both owe each other, agreed with the partner
"""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid5

from billing.common import Bell, Database, Log, Metrics, Outbox, Record, Session
from billing.roaming.filing import file_new_events
from billing.roaming.netting import Netting
from billing.roaming.tap import CURRENCIES
from billing.roaming.transmission import Transmission

NAMESPACE = UUID("5f1c5a0e-93a5-4a1b-8a0d-6a0f6f0a9c21")
POLL_S = 2.0
# Taken by whoever closes a period and by whoever files a TAP-in file: no file slips into a closed period.
PERIOD_LOCK = "select pg_advisory_xact_lock(hashtext('roaming.period'))"

_OPEN_RUNS = "select period from settlement_run where state <> 'done' order by started_at"
_STATE = "select state from settlement_run where period = $1"
# Waits until whoever has begun to add events has ended; later events are later than the run, too.
_ALL_IN = "lock table tap_event in share mode"
_TOTALS = """
select partner, direction, currency, sum(event_count)::int as event_count,
       sum(total_minor)::bigint as total_minor
from tap_file where period = $1 group by partner, direction, currency order by partner, direction"""
_SETTLE = """
insert into settlement (period, partner, direction, currency, event_count, total_minor)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning true"""
_ADVANCE = """
update settlement_run set state = $3, finished_at = case when $3 = 'done' then clock_timestamp() end
where period = $1 and state = $2"""
NEXT = {"collecting": "transmitting", "transmitting": "posting", "posting": "netting", "netting": "done"}


class Settlements:
    """``run`` works on open runs for ever; ``wake`` tells it that there is one.

    A step returns whether it is done; one that is not waits for a partner, and holds up no other run.
    """

    def __init__(
        self,
        database: Database,
        transmission: Transmission,
        netting: Netting,
        outbox: Outbox,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._steps = {
            "collecting": self._collect,
            "transmitting": transmission.send_all,
            "posting": self._post,
            "netting": netting.agree,
        }

    def wake(self) -> None:
        self._bell.ring()

    async def run(self) -> None:
        while True:
            for open_run in await self._database.fetch(_OPEN_RUNS, attempts=2):
                await self._work_on(open_run["period"])
            await self._bell.wait(POLL_S)

    async def _work_on(self, period: str) -> None:
        """To its end, or as far as the partners let it now."""
        while (state := await self._database.fetchval(_STATE, period, attempts=2)) != "done":
            self._log("settlement.step", period=period, state=state)
            if not await self._steps[state](period):
                return
            await self._advance(period, state)

    async def _advance(self, period: str, state: str) -> None:
        async def advance(session: Session) -> None:
            await session.execute(PERIOD_LOCK)
            await session.execute(_ADVANCE, period, state, NEXT[state])

        await self._database.run(advance)

    async def _collect(self, period: str) -> bool:
        # An event's instant is drawn before its commit: one that came before the run may show itself later.
        await self._database.run(lambda session: session.execute(_ALL_IN))
        for partner in CURRENCIES:
            while await self._database.run(partial(file_new_events, period, partner)):
                self._metrics.add("tap_out.files")
        return True

    async def _post(self, period: str) -> bool:
        for total in await self._database.fetch(_TOTALS, period, attempts=2):
            await self._database.run(partial(self._post_one, period, total))
        return True

    async def _post_one(self, period: str, total: Record, session: Session) -> None:
        """The row and its event; neither when the row is there already."""
        partner, direction, currency = total["partner"], total["direction"], total["currency"]
        new = await session.fetchval(
            _SETTLE, period, partner, direction, currency, total["event_count"], total["total_minor"]
        )
        if new:
            event = {
                "period": period,
                "partner": partner,
                "direction": direction,
                "currency": currency,
                "total_minor": total["total_minor"],
            }
            event_id = uuid5(NAMESPACE, f"settlement.closed/{period}/{partner}/{direction}")
            await self._outbox.add(session, "settlement.closed", event, event_id=event_id)
