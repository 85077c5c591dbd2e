-- id: CMP1
-- title: Who met an outage is compensated once, by the rule, and nobody else
-- needs: select count(distinct subscriber) from operations where kind in (select kind from functions)
--
-- An outage of COMPENSATION_MIN_S and more gives each subscriber who met it COMPENSATION_MINOR_PER_MINUTE for each
-- minute that it began: in the ledger, once, from the cost account to that subscriber's own; for anything else
-- nobody gets anything. Whether edge was right about who met it, the clients' own records tell: somebody
-- compensated had a request that failed, or was slow, about then (or gave it up in front of a broken edge, where
-- it waited in a queue until edge came back); and whose request was answered with an error, well within an outage
-- of what it asked for, met it. (What a restricted mode refuses is refused on purpose. An edge that is itself
-- broken forgets whom it saw.) That edge sees an outage at all is CMP2.
with rules as (
  select (max(value::double) filter (name = 'COMPENSATION_MIN_S') * 1e9)::bigint as min_ns,
         max(value::double) filter (name = 'COMPENSATION_MINOR_PER_MINUTE')::bigint as minor_per_minute
  from settings where service = 'invoicing' and name like 'COMPENSATION%'),
parts(kind, component) as (values
  ('topup', 'payments'), ('topup_replay', 'payments'), ('topup_conflict', 'payments'), ('invoice_payment', 'payments'),
  ('voucher', 'payments'), ('voucher_again', 'payments'), ('agent_payment', 'payments'), ('refund', 'payments'),
  ('balance', 'charging'), ('charge', 'charging'), ('spree', 'charging'), ('session', 'charging'), ('roaming_auth', 'charging'),
  ('usage', 'mediation'), ('usage_file', 'mediation'), ('usage_report', 'mediation')),
tried as (
  select o.*, p.component from operations o join parts p using (kind) where attempts > 0),
outages as (
  select u.*, ended_at_ns - began_at_ns as length_ns, length_ns >= r.min_ns as counts, r.minor_per_minute
  from edge.outage u, rules r where ended_at_ns is not null),
owed as (
  select u.id || ':' || a.subscriber as reference, u.id as outage_id, a.subscriber,
         ((u.length_ns + 59_999_999_999) // 60_000_000_000) * u.minor_per_minute as amount_minor
  from outages u join edge.outage_affected a on a.outage_id = u.id where u.counts),
granted as (
  select t.reference, sum(p.amount_minor) as amount_minor, min(p.account_id) as account, count(*) as postings
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'compensation' and p.account_id <> 'cost:compensation' group by all),
kept as (select outage_id || ':' || subscriber as reference, amount_minor from invoicing.compensation),
said as (
  select (payload->>'outage_id') || ':' || (payload->>'subscriber') as reference, count(*) as events,
         min((payload->>'amount_minor')::bigint) as amount_minor
  from invoicing.outbox where subject = 'compensation.granted' group by all),
compared as (
  select coalesce(o.reference, g.reference, k.reference, s.reference) as reference, o.subscriber, o.outage_id,
         o.amount_minor as owed_minor, g.amount_minor as granted_minor, g.account, g.postings, k.amount_minor as kept_minor,
         s.amount_minor as said_minor, s.events
  from owed o full join granted g on g.reference = o.reference full join kept k on k.reference = coalesce(o.reference, g.reference)
  full join said s on s.reference = coalesce(o.reference, g.reference, k.reference)),
restricted as (
  select committed_at_ns as from_ns, coalesce(lead(committed_at_ns) over (order by epoch), 9_000_000_000_000_000_000) as to_ns, mode
  from edge.mode),
edge_broken as (
  select injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) as to_ns from faults, timeline
  where len(list_filter(touches, lambda part: part = 'edge' or part like 'client->%' or part like 'edge->db-%')) > 0
    and fault not in ('maintenance', 'lockdown')),
failed as (
  select t.* from tried t where t.status in (500, 502, 503, 504) and t.kind not in ('agent_payment', 'refund', 'usage_file', 'usage_report', 'session')
    and not exists (select 1 from restricted r where r.mode <> 'normal' and t.completed_ns > r.from_ns and t.invoked_ns < r.to_ns)),
missed as (
  select u.id, f.subscriber, min(f.completed_ns) as at_ns
  from outages u join failed f on f.component = u.component and f.invoked_ns > u.began_at_ns and f.completed_ns < u.ended_at_ns
  where u.counts
    and not exists (select 1 from edge_broken b where b.from_ns < u.ended_at_ns + 3_000_000_000 and b.to_ns > u.began_at_ns)
    and not exists (select 1 from edge.outage_affected a where a.outage_id = u.id and a.subscriber = f.subscriber)
  group by all)
select reference as subject,
       case when owed_minor is null then 'compensated for no outage that it met'
            when granted_minor is null then 'it met an outage, and the ledger gave nothing'
            when granted_minor <> owed_minor then 'compensated with another amount'
            when postings <> 1 or account <> 'sub:' || subscriber || ':main' then 'not one posting to its own account'
            when kept_minor is distinct from owed_minor then 'invoicing''s own books say otherwise'
            else 'it has not exactly one event that says the same' end as problem,
       owed_minor as expected_minor, granted_minor as found_minor, null as at_ns
from compared
where owed_minor is null or granted_minor is distinct from owed_minor or postings <> 1 or account <> 'sub:' || subscriber || ':main'
   or kept_minor is distinct from owed_minor or said_minor is distinct from owed_minor or events <> 1
union all
select id || ':' || subscriber, 'its request failed in the outage, and edge does not have it among those who met it', null, null, at_ns from missed
union all
select o.reference, 'it is said to have met an outage, and all that it asked for went well', o.amount_minor, null, u.began_at_ns
from owed o join outages u on u.id = o.outage_id
where u.component in (select component from parts) and not exists (
  select 1 from tried t where t.subscriber = o.subscriber and t.component = u.component
    and (t.completed_ns > u.began_at_ns - 6_000_000_000 or t.outcome <> 'ok' and exists (
           select 1 from edge_broken b where b.from_ns < t.completed_ns and b.to_ns > greatest(t.invoked_ns, u.began_at_ns - 6_000_000_000)))
    and t.invoked_ns < u.ended_at_ns + 6_000_000_000
    and (t.outcome <> 'ok' or t.attempts > 1 or t.status = 202 or t.status >= 500 or t.completed_ns - t.invoked_ns > 900_000_000 or t.kind = 'session'))
