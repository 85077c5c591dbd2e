-- id: LED2
-- title: Nobody spends beyond the limit
-- applies: spree
-- needs: select (select count(*) from operations where kind = 'spree' and status = 402 and amount_minor is not null) + (select count(*) from charging.posting p join charging.transaction t on t.id = p.transaction_id where t.kind in ('charge', 'reserve') and p.amount_minor < 0 and p.account_id like 'sub:%:main' and split_part(p.account_id, ':', 2)::bigint between 901 and 1000)
--
-- In the order of commits (versions of the account): after a debit that was authorised (a charge, a reservation) the
-- balance is not below the credit limit. Limits by contract: postpaid, every fifth up to 900, may owe 10,000.00;
-- nobody else anything. And nobody is refused who could pay: not if all that the account had from
-- before the request until after its answer was enough. Only subscribers 901 to 1000, who have little, come near
-- their limit, by sprees: it is they who count as checked; whoever was debited is judged.
with postings as (
  select p.account_id, p.account_version, p.amount_minor, p.created_at_ns, t.kind, t.key,
         sum(p.amount_minor) over (partition by p.account_id order by p.account_version) as balance_minor,
         split_part(p.account_id, ':', 2)::bigint as subscriber
  from charging.posting p join charging.transaction t on t.id = p.transaction_id
  where p.account_id like 'sub:%:main'),
limited as (select *, if(subscriber <= 900 and subscriber % 5 = 0, 1_000_000, 0) as limit_minor from postings),
refused as (
  select id, subscriber, amount_minor, invoked_ns - 5_000_000_000 as from_ns, completed_ns + 1_000_000_000 as to_ns
  from operations where kind in ('charge', 'spree') and status = 402 and amount_minor is not null),
-- What the account had when it began to matter, and all that it had until the answer.
had as (
  select r.id, r.amount_minor, l.balance_minor, l.limit_minor, l.created_at_ns
  from refused r join limited l on l.subscriber = r.subscriber and l.created_at_ns between r.from_ns and r.to_ns
  union all
  select r.id, r.amount_minor, arg_max(l.balance_minor, l.account_version), any_value(l.limit_minor), r.from_ns
  from refused r join limited l on l.subscriber = r.subscriber and l.created_at_ns < r.from_ns group by r.id, r.amount_minor, r.from_ns)
select key as subject, 'debited beyond the limit' as problem, account_id, amount_minor, balance_minor, limit_minor
from limited where kind in ('charge', 'reserve') and amount_minor < 0 and balance_minor < -limit_minor
union all
select id, 'refused, though there was enough', null, amount_minor, min(balance_minor), any_value(limit_minor)
from had group by id, amount_minor having min(balance_minor) + any_value(limit_minor) >= amount_minor
