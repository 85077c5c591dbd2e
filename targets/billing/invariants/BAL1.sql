-- id: BAL1
-- title: A balance that was read was true at its time
-- applies: balance
-- needs: select count(*) from reads
--
-- Two bounds on each read, from two sides, and a third on its age.
-- By the ledger: it is the balance after one of the account's postings: none that was made after the
-- read had ended, and none that had been overtaken, beyond doubt, by the instant for which the read
-- says it is true (`as_of`; else 2 s before it began). Beyond doubt: the client had an acknowledgement
-- of a later charge; or a later posting was 3 s old, and nothing was broken or recovering when it was
-- made, so that its commit cannot have waited.
-- By the clients alone: at most the opening balance plus the payments invoked until the read ended, less
-- the charges acknowledged by that instant; at least the opening balance less the charges, refunds,
-- usage and grants invoked until it ended. Usage at the highest price of any list, twice where records are
-- rated anew. What no client knows beforehand (the worth of a voucher, a compensation, a reversal) is the ledger's.
-- By its age: with nothing broken or recovering, a read is at most 3 s old (the replica may lag 2 s). So it is
-- from 2 s after that on: who has just come back may look for the primary for a second.
-- And an answer that says ok has a balance in it.
with reads as (
  select seq, id, 'sub:' || subscriber || ':main' as account_id, subscriber, result as balance_minor,
         (detail->>'version')::bigint as version, invoked_ns, completed_ns, ns(try_cast(detail->>'as_of' as timestamptz)) as as_of_ns,
         coalesce(as_of_ns, invoked_ns - 2_000_000_000) as must_ns
  from operations where kind = 'balance' and outcome = 'ok' and result is not null),
trouble as (
  select min(start_ns) filter (name = 'fault') - 5_000_000_000 as from_ns,
         max(end_ns) filter (name in ('fault', 'recovery')) as to_ns from windows),
acknowledged as (
  select key, min(completed_ns) as at_ns from operations
  where kind in ('charge', 'spree') and outcome = 'ok' and coalesce(status, 200) < 400 group by key),
postings as (
  select p.account_id, p.account_version, p.balance_after_minor, p.created_at_ns,
         least(a.at_ns, if(p.created_at_ns between from_ns and to_ns, null, p.created_at_ns + 3_000_000_000)) as certain_ns
  from charging.posting p join charging.transaction t on t.id = p.transaction_id
  left join acknowledged a on t.kind = 'charge' and a.key = t.key, trouble
  where p.account_id like 'sub:%'),
certain as (
  select account_id, certain_ns, max(account_version) over (partition by account_id order by certain_ns) as oldest
  from postings where certain_ns is not null),
possible as (
  select account_id, created_at_ns, max(account_version) over (partition by account_id order by created_at_ns) as newest
  from postings),
ranged as (
  select r.*, coalesce(c.oldest, 1) as oldest, p.newest
  from reads r
  asof left join certain c on c.account_id = r.account_id and c.certain_ns <= r.must_ns
  asof left join possible p on p.account_id = r.account_id and p.created_at_ns <= r.completed_ns),
untrue as (
  select ranged.* from ranged anti join postings p
  on p.account_id = ranged.account_id and p.balance_after_minor = ranged.balance_minor
  and p.account_version between oldest and newest
  and p.account_version = coalesce(ranged.version, p.account_version)),
-- The clients' own bounds. Money that may have moved, by when it may have at the earliest.
dearest(service, price_micro) as (values ('data', 30_000), ('voice', 200_000), ('sms', 7_000_000), ('telex', 1_000_000)),
records as (
  select subscriber, invoked_ns, detail->>'service' as service, (detail->>'units')::bigint as units
  from operations where kind = 'usage' and outcome <> 'fail'
  union all
  select r.subscriber, invoked_ns, r.service, r.units
  from (select invoked_ns, unnest(from_json(detail->'records', '[{"subscriber": "BIGINT", "service": "VARCHAR", "units": "BIGINT"}]')) as r
        from operations where kind = 'usage_file' and outcome <> 'fail')),
moved as (
  select subscriber, invoked_ns, amount_minor, 0 as debit_minor from operations
  where kind in ('topup', 'topup_replay', 'topup_conflict', 'invoice_payment', 'agent_payment') and outcome <> 'fail'
  union all
  select subscriber, invoked_ns, 0, amount_minor from operations where kind in ('charge', 'spree', 'refund') and outcome <> 'fail'
  union all
  select subscriber, invoked_ns, 0, ((units + 60) * price_micro // 1_000_000 + 1) * (1 + (select count(*) > 0 from jobs where job = 'rerating')::bigint)
  from records join dearest using (service)
  union all
  select subscriber, invoked_ns, 0, list_sum((detail->'asked')::bigint[]) * price_micro // 1_000_000 + len((detail->'asked')::bigint[])
  from operations join dearest on dearest.service = detail->>'service' where kind = 'session' and outcome <> 'fail'
  union all
  select split_part(p.account_id, ':', 2)::bigint, p.created_at_ns, p.amount_minor, 0
  from charging.posting p join charging.transaction t on t.id = p.transaction_id
  where t.kind in ('voucher', 'compensation', 'usage_reversal') and p.account_id like 'sub:%:main'),
may as (
  select subscriber, invoked_ns, sum(amount_minor) over place as credits_minor, sum(debit_minor) over place as debits_minor
  from moved window place as (partition by subscriber order by invoked_ns range unbounded preceding)),
told as (
  select subscriber, completed_ns, amount_minor from operations
  where kind in ('charge', 'spree') and outcome = 'ok' and coalesce(status, 200) < 400
  union all
  select subscriber, completed_ns, (detail->>'charged_minor')::bigint from operations where kind = 'session' and detail is not null),
must as (
  select subscriber, completed_ns, sum(amount_minor) over (partition by subscriber order by completed_ns) as debits_minor from told),
opening as (
  select p.account_id, sum(p.amount_minor) as opening_minor
  from charging.posting p join charging.transaction t on t.id = p.transaction_id
  where t.kind = 'opening' group by all),
bounded as (
  select r.*, opening_minor - coalesce(may.debits_minor, 0) as least_minor,
         opening_minor + coalesce(may.credits_minor, 0) - coalesce(must.debits_minor, 0) as most_minor
  from reads r join opening using (account_id)
  asof left join may on may.subscriber = r.subscriber and may.invoked_ns <= r.completed_ns
  asof left join must on must.subscriber = r.subscriber and must.completed_ns <= r.must_ns)
select id as subject, 'no balance the account had at that time' as problem, account_id, balance_minor, version,
       oldest as low, newest as high, invoked_ns
from untrue
union all
select id, 'outside what clients'' operations allow', account_id, balance_minor, version, least_minor, most_minor, invoked_ns
from bounded where balance_minor not between least_minor and most_minor
union all
select id, 'too old, though nothing was broken', account_id, balance_minor, version, as_of_ns, null, invoked_ns
from reads, trouble where as_of_ns < invoked_ns - 3_000_000_000 and not coalesce(invoked_ns between from_ns and to_ns + 2_000_000_000, false)
union all
select id, 'answered ok, without a balance', 'sub:' || subscriber || ':main', null, null, null, null, invoked_ns
from operations where kind = 'balance' and outcome = 'ok' and result is null
