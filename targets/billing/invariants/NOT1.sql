-- id: NOT1
-- title: Every payment is told to its subscriber in time
-- property: liveness
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from payments.outbox where subject in ('payment.settled', 'payment.failed')
-- impact: late_or_lost_notices
--
-- By the gateway's log: within 15 s of the commit. The clock stands still while something on the notice's
-- own way is broken, and until the system has recovered: payments (its relay), broker, notify, gateway, the
-- database, and what joins them; or while more is asked than was planned. What else breaks (charging,
-- edge, a PSP, a partner) delays no notice. An acknowledged payment without any event was never told either.
with stood_still as (
  select min(injected_ns) as from_ns,
         max(greatest(coalesce(healed_ns, load_ended_ns), (select max(end_ns) from windows where name = 'recovery'))) as to_ns
  from faults, timeline
  where injected_ns is not null and (fault = 'surge' or len(list_filter(touches, lambda part: regexp_matches(part,
    '^(payments|broker|notify|gateway|etcd|db-[^>]*)$|^(payments|notify)->(broker|gateway|db-)|^db-[^>]*->'))) > 0)),
events as (
  select event_id, subject, payload->>'key' as key, payload->>'payment_id' as payment_id, created_at_ns
  from payments.outbox where subject in ('payment.settled', 'payment.failed')),
due as (
  select e.*, 15_000_000_000
         + if(created_at_ns < to_ns and created_at_ns + 15_000_000_000 > from_ns, to_ns, created_at_ns) as due_ns
  from events e, stood_still),
delivered as (select event_id, min(at_ns) as at_ns from witness.gateway where event = 'delivered' group by all)
select due.key as subject, if(d.at_ns is null, subject || ' was never told', subject || ' was told late') as problem,
       due.event_id, (d.at_ns - created_at_ns) / 1e9 as after_s, (d.at_ns - due_ns) / 1e9 as late_s
from due left join delivered d using (event_id)
where d.at_ns is null or d.at_ns > due_ns
union all
select distinct o.key, 'acknowledged, but there is no event that says so', null, null, null
from operations o anti join events e on e.key = o.key and e.subject = 'payment.settled'
where o.kind in ('topup', 'topup_replay') and o.outcome = 'ok' and coalesce(o.status, 200) < 400
