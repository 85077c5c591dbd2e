-- id: ROAM3
-- title: Each partner, period and direction is settled exactly once, and netted once
-- applies: settlement
-- needs: select count(distinct (f.period, f.partner, f.direction)) from witness.partner f where f.event = 'file_received' or (f.event = 'file_sent' and exists (select 1 from witness.partner c where c.event = 'file_confirmed' and c.direction = 'in' and c.period = f.period and c.ordinal = f.ordinal))
--
-- The run that was asked for (and whose call had a good answer: others need never have been heard of) is done; each of its sides has one event and one posting, whose legs are
-- the accounts and the total of that side. Each partner of a period that is done agreed once to its netting,
-- by its own log; of that there is one event, and one posting whose legs are the partner's accounts.
with sides as (select period || ':' || partner || ':' || direction as side, * from roaming.settlement),
posted as (
  select t.reference, count(distinct t.id) as transactions,
         sum(p.amount_minor) filter (p.account_id like 'partner:%') as partner_minor,
         max(p.account_id) filter (p.account_id like 'partner:%') as account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where t.kind = 'settlement' group by all),
said as (
  select (payload->>'period') || ':' || (payload->>'partner') || ':' || (payload->>'direction') as side, count(*) as events
  from roaming.outbox where subject = 'settlement.closed' group by all),
due as (
  select s.period || ':' || s.partner as reference, s.partner, sum(total_minor) as owed_minor
  from roaming.settlement s join roaming.settlement_run r using (period) where r.state = 'done' group by all),
agreed as (
  select period || ':' || partner as reference, count(*) as times
  from witness.partner where event = 'netting_agreed' group by all),
netted as (
  select t.reference, count(distinct t.id) as transactions,
         bool_and(p.account_id in ('partner:' || split_part(t.reference, ':', -1) || ':receivable',
                                   'partner:' || split_part(t.reference, ':', -1) || ':payable',
                                   'partner:' || split_part(t.reference, ':', -1) || ':net')) as right_accounts
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where t.kind = 'netting' group by all),
told as (
  select (payload->>'period') || ':' || (payload->>'partner') as reference, count(*) as events
  from roaming.outbox where subject = 'settlement.netted' group by all)
select coalesce(s.side, p.reference) as subject,
       case when s.side is null then 'posted, but never settled'
            when p.reference is null then 'settled, but never posted'
            when p.transactions > 1 then 'posted more than once'
            when p.account <> 'partner:' || s.partner || if(direction = 'out', ':receivable', ':payable')
              then 'posted to another account'
            else 'posted with another total' end as problem,
       s.total_minor, abs(p.partner_minor) as posted_minor, p.transactions
from sides s full join posted p on p.reference = s.side
where s.side is null or (p.reference is null and s.total_minor <> 0) or p.transactions > 1
   or abs(p.partner_minor) <> s.total_minor
   or p.account <> 'partner:' || s.partner || if(direction = 'out', ':receivable', ':payable')
union all
select s.side, 'it has not exactly one event', s.total_minor, null, coalesce(events, 0)
from sides s left join said using (side) where coalesce(events, 0) <> 1
union all
select d.reference, 'the partner did not agree exactly once to its netting', d.owed_minor, null, coalesce(times, 0)
from due d left join agreed using (reference) where coalesce(times, 0) <> 1
union all
select d.reference, 'we do not keep that its netting is agreed', d.owed_minor, null, null
from due d anti join (select period || ':' || partner as reference from roaming.netting where state = 'agreed') using (reference)
union all
select coalesce(d.reference, e.reference), 'its netting has not exactly one event', d.owed_minor, null, coalesce(events, 0)
from due d full join told e using (reference)
where coalesce(events, 0) <> 1 or (d.reference is null and not exists (select 1 from agreed a where a.reference = e.reference))
union all
select coalesce(d.reference, n.reference),
       case when d.reference is null then 'its netting is posted, and it was never agreed' when n.reference is null then 'its netting is not posted'
            when n.transactions > 1 then 'its netting is posted more than once' else 'its netting is posted to other accounts' end,
       d.owed_minor, null, n.transactions
from due d full join netted n using (reference)
where (d.reference is null and not exists (select 1 from agreed a where a.reference = n.reference))
   or (n.reference is null and d.owed_minor <> 0) or n.transactions > 1 or not n.right_accounts
union all
select period, 'the settlement was never finished: ' || state, null, null, null
from roaming.settlement_run where state <> 'done'
union all
select 'settlement', 'it was asked for, and never began', null, null, null
from jobs where job = 'settlement' and (done or answer like '2%') and not exists (select 1 from roaming.settlement_run)
