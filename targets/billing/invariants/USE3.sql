-- id: USE3
-- title: What sessions used is accounted for, and priced right
-- applies: session
-- needs: select count(*) from operations where kind = 'session' and outcome = 'ok' and (detail->>'acknowledged')::bigint > 1
--
-- Used is what the clients reported: all that was acknowledged, and of what was not, at most all. It came from the
-- bucket, was charged, or leaked. The bucket first: it is never used beyond its quota, and nobody pays while
-- there is some left. Prices by this query's own list, half up. One event per threshold that was reached, and none
-- without; it says a use that has reached it.
with price(service, micro) as (values ('data', 20_000::bigint), ('voice', 150_000::bigint)),
asked as (
  select key, subscriber, detail->>'service' as service, (detail->'reported')::bigint[] as reported,
         (detail->>'acknowledged')::bigint as acknowledged, result, detail->>'failure_handling' as failure_handling
  from operations where kind = 'session' and invoked_ns is not null and detail is not null),
told as (
  select *, coalesce(list_sum(reported[1:acknowledged]), 0) as least_units, coalesce(list_sum(reported), 0) as most_units
  from asked),
-- Units and money of each session by its reservations.
covered as (
  select session_id, sum(used_bucket_units) as bucket_units, sum(used_paid_units) as paid_units, sum(charged_minor) as charged_minor
  from charging.reservation group by all),
sessions as (
  select s.*, price.micro, coalesce(c.bucket_units, 0) + coalesce(c.paid_units, 0) as covered_units,
         coalesce(c.charged_minor, 0) as covered_minor
  from charging.session s join price using (service) left join covered c on c.session_id = s.id),
held as (
  select r.*, s.subscriber, s.service, price.micro
  from charging.reservation r join charging.session s on s.id = r.session_id join price using (service)),
-- The most that a bucket can have been used and held by: grants count from 1 s before they were made, and what they
-- left unused is free from 1 s after they ended.
changes as (
  select subscriber, service, opened_at_ns - 1_000_000_000 as at_ns, bucket_units as units from held
  union all
  select subscriber, service, greatest(opened_at_ns - 1_000_000_000, ended_at_ns + 1_000_000_001), used_bucket_units - bucket_units
  from held where ended_at_ns is not null),
occupied as (
  select subscriber, service, at_ns, sum(units) over (partition by subscriber, service order by at_ns) as units from changes),
paid as (
  select r.session_id, b.quota_units, o.units as occupied_units
  from held r join charging.bucket b on b.subscriber = r.subscriber and b.service = r.service
  asof join occupied o on o.subscriber = r.subscriber and o.service = r.service and o.at_ns <= r.opened_at_ns
  where r.paid_units > 0),
events as (
  select payload->>'bucket' as bucket, (payload->>'percent')::bigint as percent, count(*) as events,
         min((payload->>'used_units')::bigint) as used_units, min((payload->>'quota_units')::bigint) as quota_units
  from charging.outbox where subject = 'quota.threshold' group by all),
reached as (
  select b.subscriber || ':' || b.service as bucket, percent, b.used_units, b.quota_units
  from charging.bucket b, unnest([80, 100]) t (percent) where b.used_units * 100 >= b.quota_units * percent)
select t.key as subject, 'acknowledged, and there is no such session' as problem, t.least_units as expected, null::hugeint as found
from told t anti join charging.session s on s.id = t.key and s.subscriber = t.subscriber and s.service = t.service
where t.acknowledged > 0
union all
select s.id, 'a session that no client opened', null, s.used_units
from charging.session s anti join asked a on a.key = s.id
union all
select t.key, 'less is used than was acknowledged', t.least_units, s.used_units
from told t join charging.session s on s.id = t.key where s.used_units < t.least_units
union all
select t.key, 'more is used than was reported', t.most_units, s.used_units
from told t join charging.session s on s.id = t.key where s.used_units > t.most_units
union all
select id, 'used is not what was covered and what leaked', used_units, covered_units + leaked_units
from sessions where used_units <> covered_units + leaked_units
union all
select id, 'charged is not the sum of its reservations', charged_minor, covered_minor from sessions where charged_minor <> covered_minor
union all
select id, 'leaked at another price', (leaked_units * micro + 500_000) // 1_000_000, leaked_minor
from sessions where leaked_minor <> (leaked_units * micro + 500_000) // 1_000_000
union all
select session_id, 'charged at another price', (used_paid_units * micro + 500_000) // 1_000_000, charged_minor
from held where charged_minor <> (used_paid_units * micro + 500_000) // 1_000_000
union all
select session_id, 'paid for, while the bucket was not used up', quota_units, occupied_units from paid where occupied_units < quota_units
union all
select subscriber || ':' || service, 'used beyond the quota', quota_units, used_units from charging.bucket where used_units > quota_units
union all
select r.bucket, 'reached ' || r.percent || ' %, and ' || if(e.bucket is null, 'nobody was told', 'told more than once'), 1, coalesce(e.events, 0)
from reached r left join events e on e.bucket = r.bucket and e.percent = r.percent where coalesce(e.events, 0) <> 1
union all
select e.bucket, 'told of ' || e.percent || ' %, and not reached', e.quota_units * e.percent // 100, e.used_units
from events e left join reached r on r.bucket = e.bucket and r.percent = e.percent
where r.bucket is null or e.used_units * 100 < e.quota_units * e.percent or e.used_units > r.used_units or e.quota_units <> r.quota_units
