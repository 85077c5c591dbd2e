"""What a partner and we owe each other for a period is netted once both find the same figures.

We say our receivable and payable; the partner answers with what its own files say. Where they differ the
netting is disputed: it stays open and shows as a difference for people, is asked about again, and the run
does not end. With the agreement goes the event that moves both sums in the ledger.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid5

from billing.common import Answer, CallFailed, Database, HttpClient, Log, Metrics, Outbox, Record, Session

NAMESPACE = UUID("c1b7c3de-0f3c-4a53-8d0e-3a6e1b5d4f70")

_OPEN = """
insert into netting (period, partner, currency, receivable_minor, payable_minor, state)
select period, partner, currency, coalesce(sum(total_minor) filter (where direction = 'out'), 0),
       coalesce(sum(total_minor) filter (where direction = 'in'), 0), 'open'
from settlement where period = $1 group by period, partner, currency on conflict do nothing"""
_TO_AGREE = """
select period, partner, currency, receivable_minor, payable_minor from netting
where period = $1 and state <> 'agreed' order by partner, currency"""
_DISPUTED = """
update netting set state = 'disputed', their_receivable_minor = $4, their_payable_minor = $5,
  disputed_at = coalesce(disputed_at, clock_timestamp())
where period = $1 and partner = $2 and currency = $3 and state <> 'agreed'"""
_AGREED = """
update netting set state = 'agreed', their_receivable_minor = $4, their_payable_minor = $5,
  agreed_at = clock_timestamp()
where period = $1 and partner = $2 and currency = $3 and state <> 'agreed' returning true"""


class Netting:
    """``agree`` asks the partners once about what is not agreed yet."""

    def __init__(
        self, database: Database, partner: HttpClient, outbox: Outbox, metrics: Metrics, log: Log
    ) -> None:
        self._database = database
        self._partner = partner
        self._outbox = outbox
        self._metrics = metrics
        self._log = log

    async def agree(self, period: str) -> bool:
        """True when all of a period that is posted is agreed."""
        await self._database.execute(_OPEN, period, attempts=2)
        agreed = True
        for ours in await self._database.fetch(_TO_AGREE, period, attempts=2):
            agreed = await self._ask(ours) and agreed
        return agreed

    async def _ask(self, ours: Record) -> bool:
        try:
            answer = await self._partner.call("POST", "/netting", body=dict(ours))
        except CallFailed as error:
            self._log("netting.unanswered", period=ours["period"], partner=ours["partner"], error=error)
            return False
        figures = their_figures(answer)
        if figures is None:
            self._log("netting.refused", period=ours["period"], partner=ours["partner"], status=answer.status)
            return False
        # Their word alone would do, and their figures alone would do; money moves on both.
        agreed = answer.body["status"] == "agreed" and figures == (
            ours["receivable_minor"],
            ours["payable_minor"],
        )
        await self._database.run(partial(self._keep, ours, figures, agreed))
        self._metrics.add("netting.agreed" if agreed else "netting.disputed")
        return agreed

    async def _keep(self, ours: Record, theirs: tuple[int, int], agreed: bool, session: Session) -> None:
        """What came of it; the event goes with the first agreement."""
        period, partner, currency = ours["period"], ours["partner"], ours["currency"]
        if not agreed:
            await session.execute(_DISPUTED, period, partner, currency, *theirs)
        elif await session.fetchval(_AGREED, period, partner, currency, *theirs):
            event_id = uuid5(NAMESPACE, f"settlement.netted/{period}/{partner}/{currency}")
            await self._outbox.add(session, "settlement.netted", dict(ours), event_id=event_id)


def their_figures(answer: Answer) -> tuple[int, int] | None:
    """Receivable and payable as the partner finds them; None when the answer has none."""
    body = answer.body
    if answer.status != 200 or not isinstance(body, dict) or body.get("status") not in ("agreed", "disputed"):
        return None
    figures = body.get("receivable_minor"), body.get("payable_minor")
    return figures if all(type(figure) is int for figure in figures) else None  # type: ignore[return-value]
