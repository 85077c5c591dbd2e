"""Payments against the ledger, and against the providers' statements.

A statement is read from the provider itself, page by page, and kept, so that each line is read once. A
payment in doubt is the resolver's: it is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from billing.common import CallFailed, Database, HttpClient, Service
from billing.common.reconciliation import GRACE_S, Difference, Reconciliation, ask

CONSUMERS = {
    "payment.settled": ("charging", "invoicing", "notify"),
    "payment.failed": ("notify",),
    "payment.refunded": ("charging", "notify"),
}

_LEDGER = """
select id::text as reference, 'settled, and not in the ledger' as problem from payment p
where state = 'settled' and finished_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.reference = p.id::text
                  and l.kind = case p.kind when 'invoice' then 'invoice_payment' else p.kind end)
union all
select r.id::text, 'given back, and not in the ledger' from refund r
where state = 'done' and done_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'refund' and l.reference = r.id::text)"""

_READ_TO = "select coalesce(max(seq), 0) from psp_statement where psp = $1"
_LINES = """
insert into psp_statement (psp, seq, event, key, amount_minor)
select $1, * from unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[]) on conflict do nothing"""

# A payment whose refund is pending may be held, or given back: it is no difference.
_STATEMENT = """
with taken as (
  select key, sum(case event when 'capture' then amount_minor else -amount_minor end) as net_minor,
         max(read_at) as read_at
  from psp_statement where psp = $1 group by key),
ripe as (select clock_timestamp() - make_interval(secs => $2) as at),
ours as (
  select p.*, r.state as refund, greatest(p.finished_at, r.done_at) as since
  from payment p left join refund r on r.payment_id = p.id)
select t.key as reference,
       'the provider has taken ' || t.net_minor || '; we say '
         || coalesce(p.state || ' ' || p.amount_minor || coalesce(' at ' || p.psp, '')
                     || coalesce(', refund ' || p.refund, ''), 'nothing') as problem
from ripe, taken t left join ours p on p.id::text = t.key
where t.net_minor <> 0 and t.read_at < ripe.at
  and (p.id is null or p.state = 'failed' or (p.refund = 'done' and p.since < ripe.at)
       or (p.state = 'settled' and (p.psp <> $1 or p.amount_minor <> t.net_minor)))
union all
select p.id::text, 'settled, and the provider has taken nothing'
from ripe, ours p left join taken t on t.key = p.id::text
where p.psp = $1 and p.state = 'settled' and p.refund is null and p.since < ripe.at
  and coalesce(t.net_minor, 0) = 0"""


class Statement:
    """What one provider says it has taken."""

    def __init__(self, psp: str, provider: HttpClient, database: Database) -> None:
        self._psp = psp
        self._provider = provider
        self._database = database

    async def compare(self) -> Sequence[Difference] | None:
        try:
            while await self._read_page():
                pass
        except CallFailed:
            return None
        rows = await ask(self._database, _STATEMENT, self._psp, GRACE_S)
        return [Difference(row["reference"], row["problem"]) for row in rows]

    async def _read_page(self) -> bool:
        """Read and keep the next page; whether there is more. What comes meanwhile is for the next sweep."""
        after = await self._database.fetchval(_READ_TO, self._psp)
        answer = await self._provider.call("GET", f"/statement?after={after}")
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise CallFailed(f"{self._psp}: status {answer.status} to a statement", may_have_arrived=True)
        lines: list[dict[str, Any]] = answer.body["lines"]
        columns = ([line[name] for line in lines] for name in ("seq", "event", "key", "amount_minor"))
        await self._database.execute(_LINES, self._psp, *columns, attempts=2)
        return bool(answer.body["more"])


def reconciliation(service: Service, psps: Sequence[str]) -> Reconciliation:
    """All comparisons of payments, ready to run."""
    made = Reconciliation(service, CONSUMERS)
    made.compare_by_sql("ledger", _LEDGER)
    for psp in psps:
        client = service.client(f"{psp}.statement", psp.upper(), timeout_s=3.0, attempts=1)
        made.compare(psp, Statement(psp, client, service.database).compare)
    return made
