-- id: ROAM2
-- title: Both sides of a settlement agree to the minor unit
-- applies: settlement
-- needs: select coalesce(sum(f.event_count), 0)::bigint from witness.partner f where f.event = 'file_received' or (f.event = 'file_sent' and exists (select 1 from witness.partner c where c.event = 'file_confirmed' and c.direction = 'in' and c.period = f.period and c.ordinal = f.ordinal))
-- impact: settlement_differences
--
-- Out: every visitor's record that a client sent and we accepted is one TAP event with the oracle's
-- price (client's units, tariff written down here, half up); what was filed in a period is what the
-- partner received; our receivable is the sum of what the partner received. In: the mirror.
-- What came before a settlement began is in its files, without a margin: an event's instant is drawn before
-- its commit, and the settlement waits for all that have drawn one before it looks for what to file.
with tariff(service, price_micro) as (values ('data', 20_000), ('voice', 150_000), ('sms', 5_000_000)),
sent as (
  select key, min(detail->>'partner') as partner, bool_or(outcome = 'ok') as accepted, bool_and(outcome = 'fail') as refused,
         min(((detail->>'units')::bigint * price_micro + 500_000) // 1_000_000) as price_minor
  from operations left join tariff on tariff.service = operations.detail->>'service' where kind = 'roaming' group by key),
lines as (select * from witness.partner),
confirmed as (
  select period, ordinal, min(at_ns) as at_ns from lines where event = 'file_confirmed' and direction = 'in' group by all),
sheets as (
  select seq, event_count, at_ns as known_ns from lines where event = 'file_received'
  union all
  select s.seq, s.event_count, c.at_ns from lines s join confirmed c using (period, ordinal) where s.event = 'file_sent'),
theirs as (
  select e.partner, e.direction, e.period, e.record_id, e.charge_minor
  from sheets s join lines e on e.seq > s.seq and e.seq <= s.seq + s.event_count where e.event = 'tap_event'),
runs as (select period, started_at_ns from roaming.settlement_run),
ours as (select * from roaming.tap_event),
totals as (select partner, direction, period, sum(charge_minor) as total_minor from theirs group by all),
ledger as (
  select t.reference, sum(p.amount_minor) as posted_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'settlement' and p.account_id like 'partner:%' group by all),
sides as (
  select coalesce(s.period, t.period) || ':' || coalesce(s.partner, t.partner) || ':' || coalesce(s.direction, t.direction) as side,
         coalesce(s.direction, t.direction) as direction, s.total_minor as settled_minor, coalesce(t.total_minor, 0) as theirs_minor
  from totals t join runs r on r.period = t.period
  full join roaming.settlement s on (s.period, s.partner, s.direction) = (t.period, t.partner, t.direction))
select key as subject, 'accepted, but not among our TAP events' as problem, price_minor as expected_minor, null as found_minor
from sent anti join ours on ours.record_id = sent.key where accepted and price_minor is not null
union all
select o.record_id, case when s.key is null then 'nobody sent this visitor''s record' when s.refused then 'refused, but billed'
                         when o.partner <> s.partner then 'billed to another partner' else 'billed at another price' end,
       s.price_minor, o.charge_minor
from ours o left join sent s on s.key = o.record_id where o.direction = 'out'
  and (s.key is null or s.refused or o.partner <> s.partner or o.charge_minor <> s.price_minor)
union all
select o.record_id, 'it came before the settlement began, and was not filed', o.charge_minor, null
from ours o where o.direction = 'out' and o.file_id is null
  and o.received_at_ns < (select max(started_at_ns) from runs)
union all
select coalesce(t.record_id, o.record_id), 'the partner''s event and ours differ', t.charge_minor, o.charge_minor
from theirs t full join (
    select e.* from ours e join roaming.tap_file f on f.id = e.file_id where f.transmitted_at is not null) o
  on (o.record_id, o.direction, o.partner, o.period) = (t.record_id, t.direction, t.partner, t.period)
where t.record_id is null or o.record_id is null or t.charge_minor <> o.charge_minor
union all
select record_id, 'the partner was billed for it more than once', null, count(*)
from theirs group by record_id, direction having count(*) > 1
union all
select side, if(settled_minor is null, 'exchanged, but not settled', 'settled is not what was exchanged'), theirs_minor, settled_minor
from sides where settled_minor is distinct from theirs_minor
union all
select side, 'the ledger does not say what the partner''s side says', if(direction = 'out', -theirs_minor, theirs_minor), posted_minor
from sides left join ledger on ledger.reference = sides.side
where coalesce(posted_minor, 0) <> if(direction = 'out', -theirs_minor, theirs_minor)
