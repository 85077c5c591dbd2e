-- id: ROAM3
-- title: Each partner, period and direction is settled exactly once
-- applies: settlement
-- needs: select count(distinct (f.period, f.partner, f.direction)) from witness.partner f where f.event = 'file_received' or (f.event = 'file_sent' and exists (select 1 from witness.partner c where c.event = 'file_confirmed' and c.direction = 'in' and c.period = f.period and c.ordinal = f.ordinal))
--
-- The run that was asked for is done; each of its sides has one event and one posting, whose legs are
-- the accounts and the total of that side.
with sides as (select period || ':' || partner || ':' || direction as side, * from roaming.settlement),
posted as (
  select t.reference, count(distinct t.id) as transactions,
         sum(p.amount_minor) filter (p.account_id like 'partner:%') as partner_minor,
         max(p.account_id) filter (p.account_id like 'partner:%') as account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where t.kind = 'settlement' group by all),
said as (
  select (payload->>'period') || ':' || (payload->>'partner') || ':' || (payload->>'direction') as side, count(*) as events
  from roaming.outbox where subject = 'settlement.closed' group by all)
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
select period, 'the settlement was never finished: ' || state, null, null, null
from roaming.settlement_run where state <> 'done'
union all
select 'settlement', 'it was asked for, and never began', null, null, null
from jobs where job = 'settlement' and not exists (select 1 from roaming.settlement_run)
