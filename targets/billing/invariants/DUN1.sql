-- id: DUN1
-- title: Nobody is reminded who has paid, was not told, or could not pay
-- applies: billing-run
-- needs: select count(*) from invoicing.outbox where subject = 'dunning.step'
--
-- For each step as of the instant at which it was decided. Its invoice was due: by the date that it was issued
-- with, later by as much of each outage that edge had seen end as the invoice had lived through. Its notice was
-- delivered, by the gateway's log. Not all of it was taken, by the PSPs' logs, and what it asks for is what was not.
-- Subscribers could pay: the mode was normal, and had been for DUNNING_GRACE_S; no outage was known to edge (its event
-- at least 2 s old), or had ended less than that before; and by the clients' own records less than half of the payments
-- failed: seconds in which more did, five in a row, from the seventh on. (While the way from the clients is cut, or
-- edge is what is broken, nobody inside can know.) Steps come in order, once each, at least DUNNING_EVERY_S apart.
-- (That they come is DUN2.)
with rules as (
  select (max(value::double) filter (name = 'DUNNING_EVERY_S') * 1e9)::bigint as every_ns,
         (max(value::double) filter (name = 'DUNNING_GRACE_S') * 1e9)::bigint as grace_ns
  from settings where service = 'invoicing' and name like 'DUNNING%'),
issued as (
  select o.event_id, payload->>'invoice_id' as invoice_id, (payload->>'total_minor')::bigint as total_minor,
         ns((payload->>'due_at')::timestamptz) as due_ns, o.created_at_ns as issued_ns, (payload->>'number')::bigint as number
  from invoicing.outbox o where subject = 'invoice.issued'),
told as (select event_id, min(at_ns) as told_ns from witness.gateway where event = 'delivered' group by all),
asked as (select key, min(detail->>'invoice_id') as invoice_id from operations where kind = 'invoice_payment' group by all),
taken as (
  select a.invoice_id, w.at_ns, if(w.event = 'capture', w.amount_minor, -w.amount_minor) as amount_minor
  from witness.psp w join asked a on a.key = w.merchant_reference where w.event in ('capture', 'refund')),
outages as (
  select u.id, u.began_at_ns, u.ended_at_ns, e.created_at_ns as known_ns
  from edge.outage u left join (select payload->>'outage_id' as id, min(created_at_ns) as created_at_ns
                                from edge.outbox where subject = 'ops.outage.began' group by all) e on e.id = u.id
  where u.component in ('payments', 'invoicing', 'notify')),
modes as (
  select epoch, mode, committed_at_ns as from_ns,
         coalesce(lead(committed_at_ns) over (order by epoch) + grace_ns, 9_000_000_000_000_000_000) as to_ns from edge.mode, rules),
blind as (
  select injected_ns as from_ns, coalesce(healed_ns, injected_ns) as to_ns
  from faults where len(list_filter(touches, lambda part: part = 'edge' or part like 'client->%')) > 0
    and fault not in ('maintenance', 'lockdown')),
seconds as (
  select intended_ns // 1_000_000_000 as second, count(*) as due, count(*) filter (outcome = 'ok') as ok
  from operations where attempts > 0 and kind in (select kind from functions where function in ('payments', 'invoices')) group by all),
bad as (
  select second, second - row_number() over (order by second) as run from seconds where due >= 3 and ok < 0.5 * due),
broken as (
  select min(second) * 1_000_000_000 as from_ns, (max(second) + 1) * 1_000_000_000 as to_ns
  from bad group by run having count(*) >= 5),
steps as (
  select o.event_id, o.created_at_ns, s.decided_at_ns, s.step, s.invoice_id, (payload->>'open_minor')::bigint as open_minor,
         i.number, i.total_minor, i.due_ns, i.issued_ns, t.told_ns,
         lag(s.step) over before as last_step, lag(s.decided_at_ns) over before as last_ns,
         (payload->>'invoice_id', (payload->>'step')::bigint, (payload->>'open_minor')::bigint) = (s.invoice_id, s.step, s.open_minor) as agrees
  from invoicing.outbox o full join invoicing.dunning_step s using (event_id)
  left join issued i on i.invoice_id = coalesce(s.invoice_id, payload->>'invoice_id')
  left join told t on t.event_id = i.event_id
  where coalesce(o.subject, 'dunning.step') = 'dunning.step'
  window before as (partition by s.invoice_id order by s.step, s.decided_at_ns)),
facts as (
  select s.*, r.every_ns, coalesce((select sum(t.amount_minor) from taken t where t.invoice_id = s.invoice_id and t.at_ns <= s.decided_at_ns), 0) as taken_minor,
         coalesce((select sum(o.ended_at_ns - greatest(o.began_at_ns, s.issued_ns)) from outages o
                   where o.ended_at_ns < s.decided_at_ns and o.ended_at_ns > s.issued_ns), 0) as credit_ns,
         exists (select 1 from modes m where m.mode <> 'normal' and s.decided_at_ns > m.from_ns and s.decided_at_ns < m.to_ns) as restricted,
         exists (select 1 from outages o where s.decided_at_ns > o.known_ns + 2_000_000_000
                   and s.decided_at_ns < coalesce(o.ended_at_ns + r.grace_ns, s.decided_at_ns + 1)) as in_outage,
         exists (select 1 from broken b where s.decided_at_ns > b.from_ns + 6_000_000_000 and s.decided_at_ns < b.to_ns
                   and not exists (select 1 from blind x where x.from_ns < b.to_ns and x.to_ns > b.from_ns)) as unpayable
  from steps s, rules r),
judged as (
  select *, case
    when decided_at_ns is null then 'told, and not among the steps'
    when created_at_ns is null then 'a step without its event'
    when number is null then 'a step for what was never issued'
    when not agrees then 'its event says something else'
    when created_at_ns not between decided_at_ns and decided_at_ns + 10_000_000_000 then 'decided by what was known long before'
    when told_ns is null or told_ns > decided_at_ns then 'reminded of an invoice that its customer was not told of'
    when taken_minor >= total_minor then 'reminded, though it was paid'
    when open_minor <> total_minor - taken_minor then 'it asks for another amount than is open'
    when decided_at_ns < due_ns + credit_ns then 'reminded before it was due'
    when restricted then 'reminded while payments were restricted, or right after'
    when in_outage then 'reminded in an outage, or right after'
    when unpayable then 'reminded while payments failed'
    when step <> coalesce(last_step, 0) + 1 then 'a step out of order'
    when decided_at_ns < last_ns + every_ns then 'a step too soon after the one before'
  end as problem
  from facts s)
select coalesce('invoice ' || number, event_id) as subject, problem, step, open_minor, taken_minor, decided_at_ns as at_ns
from judged where problem is not null
