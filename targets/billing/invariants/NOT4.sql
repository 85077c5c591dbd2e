-- id: NOT4
-- title: A campaign waits for the notices of payments, and reaches each of its recipients once
-- property: liveness
-- applies: campaign
-- needs: select count(*) from campaigns
--
-- By the gateway's log: while a payment's notice has been due for more than 3 s, no copy of a campaign is
-- delivered before it (but where the way of events to notify was broken in that time: then notify could
-- not know, or the copies that had left before came late: over a link slowed by more than 2 s).
-- All recipients get their copy in the end, each one copy.
with campaigns as (select event_id, recipient, at_ns from witness.gateway where event = 'delivered' and template = 'campaign'),
payments as (
  select e.event_id, e.payload->>'key' as key, e.created_at_ns + 3_000_000_000 as from_ns, min(w.at_ns) as told_ns
  from payments.outbox e join witness.gateway w on w.event_id = e.event_id and w.event = 'delivered'
  where e.subject like 'payment.%' group by all),
broken as (
  select injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) + recover_within_s * 1e9 as to_ns
  from faults, timeline, experiment
  where injected_ns is not null and len(list_filter(touches, lambda part: regexp_matches(part,
    '^(payments|broker|notify|etcd|db-[^>]*)$|^(payments|notify)->(broker|db-)|^db-[^>]*->'))) > 0
  union all
  select injected_ns, coalesce(healed_ns, load_ended_ns) + recover_within_s * 1e9
  from faults, timeline, experiment
  where injected_ns is not null and fault = 'latency'
    and regexp_extract(params->>'latency', '^[0-9.]+')::double * if(params->>'latency' like '%ms', 0.001, if(params->>'latency' like '%m', 60, 1)) > 2
    and len(list_filter(touches, lambda part: part in ('gateway', 'notify->gateway'))) > 0),
overtaken as (
  select p.key, count(*) as copies, min(c.at_ns) as at_ns
  from payments p join campaigns c on c.at_ns > p.from_ns and c.at_ns < p.told_ns
  where not exists (select 1 from broken b where p.told_ns > b.from_ns and p.from_ns < b.to_ns)
  group by p.key),
reached as (
  select c.event_id, c.id, c.recipients, count(distinct d.recipient) as reached, count(d.recipient) as copies
  from notify.campaign c left join campaigns d using (event_id) group by all)
select key as subject, copies || ' copies of a campaign were delivered before the notice of this payment' as problem, at_ns
from overtaken
union all
select id, 'reached ' || reached || ' of ' || recipients || ' recipients, with ' || copies || ' copies', null
from reached where reached <> recipients or copies <> recipients
