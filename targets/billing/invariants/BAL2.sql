-- id: BAL2
-- title: A balance never goes back on what was seen or written before
-- applies: balance
-- needs: select count(*) from operations where kind = 'balance' and outcome = 'ok' and detail->>'version' is not null
--
-- Each read says for which instant it is true (`as_of`; else 2 s before it began), and that is not after it ended.
-- Read your writes: what a client was acknowledged before that instant is in it. Monotone reads: so is what another
-- read had shown more than 1 s before that instant (with nothing broken or recovering: a standby may show what
-- its primary, cut off, does not count as committed yet). And one version of an account has one balance.
with trouble as (
  select min(start_ns) filter (name = 'fault') - 5_000_000_000 as from_ns,
         max(end_ns) filter (name in ('fault', 'recovery')) as to_ns from windows),
reads as (
  select id, subscriber, result as balance_minor, (detail->>'version')::bigint as version, invoked_ns, completed_ns,
         coalesce(ns(try_cast(detail->>'as_of' as timestamptz)), invoked_ns - 2_000_000_000) as as_of_ns
  from operations where kind = 'balance' and outcome = 'ok' and result is not null and detail->>'version' is not null),
calm as (
  select reads.* from reads, trouble
  where not coalesce(completed_ns >= from_ns and invoked_ns <= to_ns + 5_000_000_000, false)),
writes as (
  select o.key, o.subscriber, o.completed_ns, p.account_version as version
  from operations o join charging.transaction t on t.kind = 'charge' and t.key = o.key
  join charging.posting p on p.transaction_id = t.id and p.account_id = 'sub:' || o.subscriber || ':main'
  where o.kind in ('charge', 'spree') and o.outcome = 'ok' and o.status < 400),
written as (
  select subscriber, completed_ns, max(version) over (partition by subscriber order by completed_ns) as version,
         arg_max(key, version) over (partition by subscriber order by completed_ns) as key
  from writes),
shown as (
  select subscriber, completed_ns, max(version) over (partition by subscriber order by completed_ns) as version,
         arg_max(id, version) over (partition by subscriber order by completed_ns) as id
  from calm)
select r.id as subject, 'true for an instant that had not come' as problem, null as earlier, r.version, null as expected
from reads r where r.as_of_ns > r.completed_ns + 100_000_000
union all
select r.id, 'an acknowledged charge is not in it', w.key, r.version, w.version
from reads r asof join written w on w.subscriber = r.subscriber and w.completed_ns <= r.as_of_ns where r.version < w.version
union all
select r.id, 'an earlier read had shown more', s.id, r.version, s.version
from calm r asof join shown s on s.subscriber = r.subscriber and s.completed_ns <= r.as_of_ns - 1_000_000_000
where r.version < s.version
union all
select max(id), 'one version, two balances', min(id), version, count(distinct balance_minor)
from reads group by subscriber, version having count(distinct balance_minor) > 1
