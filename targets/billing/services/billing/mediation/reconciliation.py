"""Rated usage against the debits in the ledger."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {"cdr.rated": ("charging",), "cdr.roaming": ("roaming",)}

_DEBITS = """
select record_id as reference, 'rated ' || charge_minor || ', and never debited' as problem from cdr_rated r
where visitor_of is null and rated_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'usage' and l.reference = r.record_id)"""


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of mediation, ready to run."""
    made = Reconciliation(service, CONSUMERS)
    made.compare_by_sql("debits", _DEBITS)
    return made
