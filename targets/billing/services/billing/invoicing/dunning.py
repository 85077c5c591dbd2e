"""Reminds of what is due: a reminder, a second one, and the announcement that service will be barred.

A step is made only for an invoice that is unpaid and due, whose notice is known to be delivered, and for
which no payment is under way: payments is asked in its books, because its events may be late. And never
while subscribers may be unable to pay: in an outage, in a restricted mode, and for a while after. All of it
is looked at in the transaction that makes the step.

Who was blind knows of no outage: after a start, and after a time in which the database could not be
asked, dunning first waits as after an outage. What edge has seen meanwhile will be known by then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal
from uuid import UUID, uuid5

from billing.common import Database, Log, Metrics, Outbox, Record, Session, admit, is_infrastructure
from billing.invoicing.rules import Rules

NAMESPACE = UUID("3f0c7a52-51c5-4f0f-8f1d-9a7c1be0d6f4")
# Whose outage keeps a subscriber from paying, or from knowing what to pay.
FROZEN_BY = ("payments", "invoicing", "notify")
BATCH = 50
EVERY_S = 0.5
BLIND_AFTER_S = 2.0

Freeze = Literal["mode", "outage", "blind"]

# An ended outage freezes until its end was heard of here: then due dates have moved.
_FREEZE = """
select case
  when exists (select from public.mode_in_force
               where mode <> 'normal' or committed_at > clock_timestamp() - make_interval(secs => $1))
    then 'mode'
  when exists (select from public.outage o
               where component = any($2::text[])
                 and (ended_at is null or ended_at > clock_timestamp() - make_interval(secs => $1)
                      or not exists (select from outage_heard h where h.outage_id = o.id)))
    then 'outage'
end"""

# `statement_timestamp()` is not later than what the statement sees: as of then it was unpaid.
_DUE = f"""
select i.id, i.number, i.subscriber, i.steps + 1 as step, i.total_minor - i.paid_minor as open_minor,
       statement_timestamp() as decided_at
from invoice i
where i.state = 'issued' and i.steps < 3 and i.notified_at is not null
  and i.due_at <= statement_timestamp()
  and (i.last_step_at is null or i.last_step_at <= statement_timestamp() - make_interval(secs => $1))
  and not exists (
    select from public.invoice_payment p where p.invoice_id = i.id and p.state <> 'failed'
      and not exists (select from payment_in k where k.payment_id = p.payment_id))
order by i.id limit {BATCH} for update of i skip locked"""

_STEPS = """
with made as (
  insert into dunning_step (invoice_id, step, event_id, open_minor, epoch, decided_at)
  select e.*, $5::bigint, $6::timestamptz from unnest($1::uuid[], $2::int[], $3::uuid[], $4::bigint[]) e
  returning invoice_id, step)
update invoice i set steps = m.step, last_step_at = clock_timestamp() from made m where i.id = m.invoice_id"""


class Dunning:
    """``run`` is a background task. ``clock`` in seconds, monotonic."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        rules: Rules,
        metrics: Metrics,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._rules = rules
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._looked: float | None = None  # when the database last told how things are
        self._sees_from = 0.0
        self._frozen: Freeze | None = None

    async def run(self) -> None:
        while True:
            try:
                while await self._database.run(self.remind_some) == BATCH:
                    pass
            except Exception as error:
                # It is asked again at the next turn; whether that comes too late is seen then.
                if not is_infrastructure(error):
                    raise
            await asyncio.sleep(EVERY_S)

    async def remind_some(self, session: Session) -> int:
        """The next steps that are due, at most BATCH; returns how many there were."""
        # It holds the mode until the commit: what restricts it comes before this step, or after it.
        epoch = await admit(session, "dunning")
        frozen = await self._freeze(session)
        if frozen != self._frozen:
            self._log("dunning.frozen" if frozen else "dunning.goes_on", why=frozen or self._frozen)
            self._frozen = frozen
        if frozen is not None:
            return 0
        due = await session.fetch(_DUE, self._rules.dunning_every_s)
        if due:
            await self._make(session, due, epoch)
        return len(due)

    async def _freeze(self, session: Session) -> Freeze | None:
        """Why dunning stands still, if it does."""
        found: Freeze | None = await session.fetchval(_FREEZE, self._rules.dunning_grace_s, list(FROZEN_BY))
        now = self._clock()
        if self._looked is None or now - self._looked > BLIND_AFTER_S:
            self._sees_from = now + self._rules.dunning_grace_s
        self._looked = now
        return found or ("blind" if now < self._sees_from else None)

    async def _make(self, session: Session, due: Sequence[Record], epoch: int) -> None:
        events = [
            (
                uuid5(NAMESPACE, f"dunning.step/{row['id']}/{row['step']}"),
                {
                    "invoice_id": str(row["id"]),
                    "number": row["number"],
                    "subscriber": row["subscriber"],
                    "step": row["step"],
                    "open_minor": row["open_minor"],
                },
            )
            for row in due
        ]
        await session.execute(
            _STEPS,
            [row["id"] for row in due],
            [row["step"] for row in due],
            [event_id for event_id, _ in events],
            [row["open_minor"] for row in due],
            epoch,
            due[0]["decided_at"],
        )
        await self._outbox.add_all(session, "dunning.step", events)
        self._metrics.add("dunning.steps", len(due))
