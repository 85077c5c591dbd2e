-- id: EVT1
-- title: No confirmed event is lost, not even to be sent again
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment refund usage usage_file roaming session settlement billing-run
-- needs: select count(*) from applied
--
-- Reconciliation brings back an event that the broker confirmed and lost, or that a consumer acknowledged
-- and did not apply. What tells it from one that was only late: a slow consumer catches up in order, a lost
-- event is overtaken. So: it was sent again, and it was applied more than 8 s after one of the same outbox
-- that was created later. Redelivery alone delays an event by at most the consumers' 6 s of waiting for an
-- acknowledgement, but by as much again each time that the answer meets a broken way: so the 8 s begin
-- no earlier than the last healing, before it was applied, of the broker, the consumer, the database or their links.
with events as (
  select 'payments' as service, event_id, created_at_ns, resends from payments.outbox union all
  select 'mediation', event_id, created_at_ns, resends from mediation.outbox union all
  select 'charging', event_id, created_at_ns, resends from charging.outbox union all
  select 'invoicing', event_id, created_at_ns, resends from invoicing.outbox union all
  select 'notify', event_id, created_at_ns, resends from notify.outbox union all
  select 'edge', event_id, created_at_ns, resends from edge.outbox union all
  select 'roaming', event_id, created_at_ns, resends from roaming.outbox),
applied as (
  select consumer, event_id, received_at_ns from charging.inbox union all
  select consumer, event_id, received_at_ns from notify.inbox union all
  select consumer, event_id, received_at_ns from invoicing.inbox union all
  select consumer, event_id, received_at_ns from roaming.inbox),
arrivals as (select * from events join applied using (event_id)),
overtaken as (
  select e.service, e.consumer, e.event_id, e.resends, e.received_at_ns, min(later.received_at_ns) as overtaken_ns
  from arrivals e join arrivals later
    on (later.service, later.consumer) = (e.service, e.consumer) and later.created_at_ns > e.created_at_ns
  where e.resends > 0 group by all),
judged as (
  select o.*, greatest(o.overtaken_ns, coalesce((
    select max(coalesce(f.healed_ns, t.load_ended_ns)) from faults f, timeline t
    where f.injected_ns < o.received_at_ns and len(list_filter(f.touches, lambda part: regexp_matches(part,
      '^(broker|etcd|db-[^>]*|' || o.consumer || ')$|^' || o.consumer || '->(broker|db-)|^db-[^>]*->'))) > 0), 0)) as from_ns
  from overtaken o)
select event_id as subject, 'lost on its way to ' || consumer || ', and sent again' as problem, service as sent_by, resends,
       (received_at_ns - overtaken_ns) / 1e9 as overtaken_s
from judged where received_at_ns > from_ns + 8_000_000_000
