-- id: MNT2
-- title: Maintenance loses no work that was accepted
-- applies: maintenance
-- needs: select count(*) from operations where outcome = 'ok' and kind in ('topup', 'charge', 'usage') and invoked_ns < (select max(committed_at_ns) from edge.mode where mode = 'maintenance')
--
-- Whatever was accepted before or during the drain has its effect, exactly once; whatever was queued
-- was applied by each of its consumers.
with closed as (select min(committed_at_ns) as from_ns, max(committed_at_ns) as to_ns from edge.mode where epoch > 1),
accepted as (
  select distinct o.kind, o.key, o.subscriber from operations o, closed c
  where o.outcome = 'ok' and coalesce(o.status, 200) < 400 and o.kind in ('topup', 'charge') and o.invoked_ns < c.to_ns),
records as (
  select distinct o.key from operations o, closed c
  where o.outcome = 'ok' and o.kind in ('usage', 'roaming') and o.invoked_ns < c.to_ns),
effects as (select kind, key, count(*) as effects from charging.transaction group by all),
queued as (
  select event_id, subject, 'charging' as consumer from payments.outbox where subject in ('payment.settled', 'payment.refunded') union all
  select event_id, subject, 'invoicing' from payments.outbox where subject = 'payment.settled' union all
  select event_id, subject, 'notify' from payments.outbox union all
  select event_id, subject, 'charging' from mediation.outbox where subject in ('cdr.rated', 'cdr.reversed') union all
  select event_id, subject, 'invoicing' from mediation.outbox where subject in ('cdr.rated', 'cdr.reversed') union all
  select event_id, subject, 'roaming' from mediation.outbox where subject = 'cdr.roaming' union all
  select event_id, subject, 'notify' from charging.outbox where subject = 'quota.threshold' union all
  select event_id, subject, 'notify' from invoicing.outbox union all
  select event_id, subject, 'charging' from invoicing.outbox where subject = 'compensation.granted' union all
  select event_id, subject, 'invoicing' from notify.outbox where subject = 'notice.delivered' union all
  select event_id, subject, 'invoicing' from edge.outbox where subject = 'ops.outage.ended' union all
  select event_id, subject, 'charging' from roaming.outbox where subject in ('settlement.closed', 'settlement.netted')),
applied as (
  select event_id, 'charging' as consumer from charging.inbox union all
  select event_id, 'invoicing' from invoicing.inbox union all
  select event_id, 'notify' from notify.inbox union all
  select event_id, 'roaming' from roaming.inbox)
select a.key as subject, 'accepted around the window, but not done exactly once' as problem, a.kind, coalesce(effects, 0) as effects
from accepted a left join effects e on e.kind = a.kind and e.key = a.key where coalesce(effects, 0) <> 1
union all
select r.key, 'accepted around the window, but not rated or suspended', 'usage', 0
from records r anti join (
  select record_id as key from mediation.cdr_rated union all select record_id from mediation.suspense) done using (key)
union all
select q.event_id, 'queued, but not applied exactly once by ' || q.consumer, q.subject, count(a.event_id)
from queued q left join applied a using (event_id, consumer) group by all having count(a.event_id) <> 1
