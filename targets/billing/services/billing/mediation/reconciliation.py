"""Ratings and their reversals against the debits and credits in the ledger."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {
    "cdr.rated": ("charging", "invoicing"),
    "cdr.reversed": ("charging", "invoicing"),
    "cdr.roaming": ("roaming",),
}

_DEBITS = """
select record_id || '#' || rating as reference, 'rated ' || charge_minor || ', and never debited' as problem
from cdr_rated r
where visitor_of is null and rated_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'usage'
                  and l.reference = r.record_id || case when r.rating = 1 then '' else '#' || r.rating end)"""

_REVERSALS = """
select record_id || '#' || rating as reference,
       'reversed ' || charge_minor || ', and never given back' as problem
from cdr_rated r
where visitor_of is null and reversed_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'usage_reversal'
                  and l.reference = r.record_id || '#' || r.rating)"""


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of mediation, ready to run."""
    made = Reconciliation(service, CONSUMERS)
    made.compare_by_sql("debits", _DEBITS)
    made.compare_by_sql("reversals", _REVERSALS)
    return made
