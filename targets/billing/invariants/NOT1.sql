-- id: NOT1
-- title: Whatever a subscriber must hear of is told in time
-- property: liveness
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment refund session billing-run
-- needs: select (select count(*) from payments.outbox) + (select count(*) from charging.outbox) + (select count(*) from invoicing.outbox)
-- impact: late_or_lost_notices
--
-- Payments, refunds, thresholds of quotas, invoices, steps of dunning, compensation: by the gateway's log within
-- 15 s of the commit. The clock stands still while something on the notice's own way is broken, and until the
-- system has recovered: its sender (the relay), broker, notify, gateway, the database, and what joins them; or
-- while more is asked than was planned. What else breaks (edge, a PSP, a partner) delays no notice. An
-- acknowledged payment without any event was never told either.
with events as (
  select 'payments' as sender, event_id, subject, payload, created_at_ns from payments.outbox
  where subject in ('payment.settled', 'payment.failed', 'payment.refunded')
  union all
  select 'charging', event_id, subject, payload, created_at_ns from charging.outbox where subject = 'quota.threshold'
  union all
  select 'invoicing', event_id, subject, payload, created_at_ns from invoicing.outbox
  where subject in ('invoice.issued', 'dunning.step', 'compensation.granted')),
stood_still as (
  select s.sender, min(injected_ns) as from_ns,
         max(greatest(coalesce(healed_ns, load_ended_ns), (select max(end_ns) from windows where name = 'recovery'))) as to_ns
  from (values ('payments'), ('charging'), ('invoicing')) s (sender), faults, timeline
  where injected_ns is not null and (fault = 'surge' or len(list_filter(touches, lambda part: regexp_matches(part,
    '^(' || s.sender || '|broker|notify|gateway|etcd|db-[^>]*)$|^(' || s.sender || '|notify)->(broker|gateway|db-)|^db-[^>]*->'))) > 0)
  group by s.sender),
due as (
  select e.*, coalesce(payload->>'key', 'sub:' || (payload->>'subscriber')) as told_of, 15_000_000_000
         + if(created_at_ns < to_ns and created_at_ns + 15_000_000_000 > from_ns, to_ns, created_at_ns) as due_ns
  from events e left join stood_still using (sender)),
delivered as (select event_id, min(at_ns) as at_ns from witness.gateway where event = 'delivered' group by all)
select told_of as subject, if(d.at_ns is null, subject || ' was never told', subject || ' was told late') as problem,
       due.event_id, (d.at_ns - created_at_ns) / 1e9 as after_s, (d.at_ns - due_ns) / 1e9 as late_s
from due left join delivered d using (event_id)
where d.at_ns is null or d.at_ns > due_ns
union all
select distinct o.key, 'acknowledged, but there is no event that says so', null, null, null
from operations o anti join events e on e.payload->>'key' = o.key and e.subject = 'payment.settled'
where o.kind in ('topup', 'topup_replay', 'invoice_payment', 'voucher', 'agent_payment') and o.outcome = 'ok'
  and coalesce(o.status, 200) < 400
