"""What is billed against the usage that mediation has rated, what is paid against the books of payments, and
what is granted against the ledger."""

from __future__ import annotations

from billing.common import Service
from billing.common.reconciliation import Reconciliation

CONSUMERS = {
    "invoice.issued": ("notify",),
    "dunning.step": ("notify",),
    "compensation.granted": ("charging", "notify"),
}

_USAGE = """
with told as (
  select record_id, rating, subscriber, 'usage' as kind, charge_minor as amount_minor, rated_at as told_at
  from public.rated_usage
  union all
  select record_id, rating, subscriber, 'reversal', -charge_minor, reversed_at from public.rated_usage
  where reversed_at is not null)
select t.kind || ' ' || t.record_id || '#' || t.rating as reference,
       'rated ' || t.amount_minor || ', billed ' || coalesce(i.amount_minor::text, 'never') as problem
from told t
join customer c on c.subscriber = t.subscriber
left join item i on i.record_id = t.record_id and i.rating = t.rating and i.kind = t.kind
where t.told_at < clock_timestamp() - make_interval(secs => $1)
  and (i.record_id is null or i.amount_minor <> t.amount_minor or i.subscriber <> t.subscriber)"""

_PAYMENTS = """
select p.payment_id::text as reference, 'settled, and not known as paid' as problem
from public.invoice_payment p
where p.state = 'settled' and p.finished_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from payment_in k where k.payment_id = p.payment_id)
union all
select k.payment_id::text,
       case when i.id is null then 'it pays an invoice that does not exist: ' || k.invoice_id
            else 'payments says ' || coalesce(p.state || ' ' || p.amount_minor, 'nothing') || ' of it' end
from payment_in k
left join invoice i on i.id = k.invoice_id
left join public.invoice_payment p on p.payment_id = k.payment_id
where k.received_at < clock_timestamp() - make_interval(secs => $1)
  and (i.id is null or p.state is distinct from 'settled'
       or p.amount_minor <> k.amount_minor or p.invoice_id <> k.invoice_id)"""

_GRANTS = """
select outage_id || ':' || subscriber as reference,
       'granted ' || amount_minor || ', and not in the ledger' as problem
from compensation c
where granted_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'compensation'
                  and l.reference = c.outage_id || ':' || c.subscriber)"""


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of invoicing, ready to run."""
    made = Reconciliation(service, CONSUMERS)
    made.compare_by_sql("usage", _USAGE)
    made.compare_by_sql("payments", _PAYMENTS)
    made.compare_by_sql("compensations", _GRANTS)
    return made
