-- id: LED3
-- title: What was acknowledged stays in the ledger
-- applies: charge spree session
-- needs: select if((select count(*) >= 2 and bool_and(whole) from (select max(at_ns) >= (select load_ended_ns from timeline) - 2_000_000_000 and min(at_ns) <= (select load_started_ns from timeline) + 2_000_000_000 as whole from samples where name = 'role:db-primary' group by subject)), (select count(*) from operations where kind in ('charge', 'spree', 'session') and outcome = 'ok' and status < 400), 0)
-- impact: acknowledged_writes_lost where problem = 'acknowledged, but not in the ledger'
--
-- Every acknowledged charge is posted exactly once, with its amount, to its subscriber; no charge is
-- posted that was refused or never asked for. What a session was told it was charged is posted, to its subscriber:
-- no less ever, no more where all of its requests were acknowledged, nothing where it was refused. And no two nodes lead at one time, whatever their timelines
-- (a promotion begins a new one, so two leaders are on two). To lead is to answer 200 as `primary`: whoever
-- has the leader's lock answers 200 before it is promoted, still as `replica`. At one time is proved
-- by three questions in a row to each, over more than the second that an answer may take.
with asked as (
  select key, min(subscriber) as subscriber, min(amount_minor) as amount_minor, bool_or(ok) as acknowledged,
         bool_and(outcome = 'fail' or (outcome = 'ok' and status >= 400)) as refused
  from (select *, outcome = 'ok' and coalesce(status, 200) < 400 as ok from operations) where kind in ('charge', 'spree') group by key),
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
told as (
  select key, subscriber, outcome, (detail->>'charged_minor')::bigint as charged_minor,
         (detail->>'acknowledged')::bigint = len((detail->'reported')::bigint[]) as whole
  from operations where kind = 'session' and detail is not null),
sessions as (
  select t.key, sum(-p.amount_minor) filter (t.kind = 'session') as posted_minor, count(distinct t.id) as transactions,
         min(split_part(p.account_id, ':', 2)) as subscriber, max(split_part(p.account_id, ':', 2)) as other_subscriber
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('reserve', 'session', 'release') and p.account_id like 'sub:%' group by all),
used as (
  select coalesce(t.key, s.key) as key, t.outcome, t.charged_minor, coalesce(s.posted_minor, 0) as posted_minor, s.transactions,
         case when t.key is null then 'a session that nobody asked for was posted'
              when t.outcome = 'fail' and s.transactions > 0 then 'a session that was refused was posted'
              when coalesce(s.posted_minor, 0) < t.charged_minor then 'acknowledged, but not in the ledger'
              when t.whole and s.posted_minor > t.charged_minor then 'a session was charged more than it was told'
              when s.subscriber <> t.subscriber::varchar or s.subscriber <> s.other_subscriber then 'a session was posted to another account'
         end as problem
  from told t full join sessions s on s.key = t.key),
roles as (
  select at_ns, subject as node,
         coalesce(value = 200 and json_extract_string(try_cast(text as json), '$.role') = 'primary', false) as leads
  from samples where name = 'role:db-primary'),
leaders as (
  select node, at_ns, row_number() over (partition by node order by at_ns)
                      - row_number() over (partition by node, leads order by at_ns) as reign, leads from roles),
reigns as (select node, reign, min(at_ns) as from_ns, max(at_ns) as to_ns from leaders where leads group by all),
at_once as (
  select a.node as node, b.node as other, a.reign as reign, b.reign as other_reign,
         greatest(a.from_ns, b.from_ns) as from_ns, least(a.to_ns, b.to_ns) as to_ns
  from reigns a join reigns b on a.node < b.node and a.from_ns <= b.to_ns and b.from_ns <= a.to_ns)
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
select key, problem, charged_minor, posted_minor, transactions from used where problem is not null
union all
select node || ' and ' || other, 'two nodes lead at one time, for ' || round((to_ns - from_ns) / 1e9, 1) || ' s', null, null, null
from at_once o
where to_ns - from_ns > 1_000_000_000
  and (select count(*) from leaders l where l.node = o.node and l.reign = o.reign and leads and at_ns between from_ns and to_ns) >= 3
  and (select count(*) from leaders l where l.node = o.other and l.reign = o.other_reign and leads and at_ns between from_ns and to_ns) >= 3
