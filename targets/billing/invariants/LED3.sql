-- id: LED3
-- title: What was acknowledged stays in the ledger
-- applies: charge
-- needs: select count(*) from operations where kind = 'charge' and outcome = 'ok'
-- impact: acknowledged_writes_lost where problem = 'acknowledged, but not in the ledger'
--
-- Every acknowledged charge is posted exactly once, with its amount, to its subscriber; no charge is
-- posted that was refused or never asked for; and no two nodes lead on one timeline at one time.
with asked as (
  select key, min(subscriber) as subscriber, min(amount_minor) as amount_minor, bool_or(outcome = 'ok') as acknowledged,
         bool_and(outcome = 'fail') as refused
  from operations where kind = 'charge' group by key),
posted as (
  select t.key, count(distinct t.id) as transactions, sum(p.amount_minor) as sum_minor,
         min(p.account_id) as account, max(p.account_id) as other_account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'charge' and p.account_id like 'sub:%' group by all),
compared as (
  select coalesce(a.key, p.key) as key, a.key is not null as known, coalesce(acknowledged, false) as acknowledged,
         coalesce(refused, false) as refused, a.amount_minor, p.sum_minor, coalesce(p.transactions, 0) as transactions,
         coalesce(account = other_account and account = 'sub:' || a.subscriber || ':main', true) as right_account
  from asked a full join posted p on p.key = a.key),
leaders as (
  select at_ns, subject as node, try_cast(json_extract_string(try_cast(text as json), '$.timeline') as bigint) as timeline
  from samples where name = 'role:db-primary' and value = 200)
select key as subject,
       case when not known then 'posted, but nobody asked for it'
            when refused then 'refused, but posted'
            when transactions = 0 then 'acknowledged, but not in the ledger'
            when transactions > 1 then 'posted more than once'
            when not right_account then 'posted to another account'
            else 'posted with another amount' end as problem,
       amount_minor, -sum_minor as posted_minor, transactions
from compared
where not known or (refused and transactions > 0) or (acknowledged and transactions = 0) or transactions > 1
   or (transactions = 1 and (not right_account or -sum_minor <> amount_minor))
union all
select a.node || ' and ' || b.node, 'two nodes lead on timeline ' || a.timeline || ' at ' || a.at_ns, null, null, count(*)
from leaders a join leaders b on a.timeline = b.timeline and a.node < b.node and abs(a.at_ns - b.at_ns) < 250_000_000
group by all
