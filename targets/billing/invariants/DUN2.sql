-- id: DUN2
-- title: Who is late is reminded
-- property: liveness
-- applies: billing-run
-- when: select count(*) > 0 from due
-- needs: select count(*) from due
--
-- Steps come: a customer who was told of an invoice (by the gateway's log), has not paid anything of it, and could
-- for 15 s before the load ended has been reminded. Due: by the date that the invoice was issued with, later by as
-- much of each outage that edge saw end as it had lived through. Could pay: after all faults, outages and
-- modes, and DUNNING_GRACE_S. Where nobody was late for so long, nobody is to be reminded: then it does not apply.
with rules as (
  select (max(value::double) filter (name = 'DUNNING_GRACE_S') * 1e9)::bigint as grace_ns from settings where service = 'invoicing' and name like 'DUNNING%'),
issued as (
  select o.event_id, payload->>'invoice_id' as invoice_id,
         ns((payload->>'due_at')::timestamptz) as due_ns, o.created_at_ns as issued_ns, (payload->>'number')::bigint as number
  from invoicing.outbox o where subject = 'invoice.issued'),
told as (select event_id, min(at_ns) as told_ns from witness.gateway where event = 'delivered' group by all),
asked as (select distinct detail->>'invoice_id' as invoice_id from operations where kind = 'invoice_payment'),
outages as (
  select began_at_ns, ended_at_ns from edge.outage where component in ('payments', 'invoicing', 'notify')),
disturbed as (
  select max(at_ns) as until_ns from (
    select max(coalesce(healed_ns, load_ended_ns)) as at_ns from faults, timeline
    union all select max(end_ns) from windows where name in ('fault', 'recovery')
    union all select max(coalesce(ended_at_ns, load_ended_ns)) from outages, timeline
    union all select max(committed_at_ns) from edge.mode)),
due as (
  select i.invoice_id, i.number, greatest(
           i.due_ns + coalesce((select sum(o.ended_at_ns - greatest(o.began_at_ns, i.issued_ns))
                                from outages o where o.ended_at_ns > i.issued_ns), 0),
           t.told_ns, d.until_ns + r.grace_ns) as since_ns
  from issued i join told t on t.event_id = i.event_id, disturbed d, timeline, rules r
  where since_ns < load_ended_ns - 15_000_000_000
    and not exists (select 1 from asked a where a.invoice_id = i.invoice_id))
select 'invoice ' || number as subject, 'due for long, and nobody was reminded' as problem, since_ns as at_ns
from due where not exists (select 1 from invoicing.dunning_step s where s.invoice_id = due.invoice_id)
