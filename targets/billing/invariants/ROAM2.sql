-- id: ROAM2
-- title: Both sides of a settlement agree to the minor unit, in the partner's currency
-- applies: settlement
-- needs: select coalesce(sum(event_count), 0)::bigint from sheets
-- impact: settlement_differences
--
-- Out: every visitor's record that a client sent and we accepted is one TAP event at what mediation rated it
-- (which USE2 judges by its own oracle), in the currency agreed with its partner; what was filed in a period
-- is what the partner received; our receivable is the sum of what the partner received. In: the mirror.
-- Net: what each partner agreed to, and what moved in the ledger, are the sums of its own files.
-- What came before a settlement began is in its files, without a margin: an event's instant is drawn before
-- its commit, and the settlement waits for all that have drawn one before it looks for what to file.
with agreed(partner, currency) as (values ('alfa', 'EUR'), ('beta', 'USD')),
sent as (
  select key, min(detail->>'partner') as partner, bool_or(outcome = 'ok') as accepted, bool_and(outcome = 'fail') as refused
  from operations where kind = 'roaming' group by key),
rated as (select record_id, max(charge_minor) as price_minor from mediation.cdr_rated where visitor_of is not null group by all),
lines as (select * from witness.partner),
confirmed as (
  select period, ordinal, min(at_ns) as at_ns from lines where event = 'file_confirmed' and direction = 'in' group by all),
sheets as (
  select seq, event_count, at_ns as known_ns from lines where event = 'file_received'
  union all
  select s.seq, s.event_count, c.at_ns from lines s join confirmed c using (period, ordinal) where s.event = 'file_sent'),
theirs as (
  select e.partner, e.direction, e.period, e.record_id, e.currency, e.charge_minor
  from sheets s join lines e on e.seq > s.seq and e.seq <= s.seq + s.event_count where e.event = 'tap_event'),
runs as (select period, started_at_ns, state from roaming.settlement_run),
ours as (select * from roaming.tap_event),
totals as (select partner, direction, period, currency, sum(charge_minor) as total_minor from theirs group by all),
ledger as (
  select t.reference, sum(p.amount_minor) as posted_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'settlement' and p.account_id like 'partner:%' group by all),
sides as (
  select coalesce(s.period, t.period) || ':' || coalesce(s.partner, t.partner) || ':' || coalesce(s.direction, t.direction) as side,
         coalesce(s.direction, t.direction) as direction, s.total_minor as settled_minor, coalesce(t.total_minor, 0) as theirs_minor,
         coalesce(s.partner, t.partner) as partner, s.currency
  from totals t join runs r on r.period = t.period
  full join roaming.settlement s on (s.period, s.partner, s.direction, s.currency) = (t.period, t.partner, t.direction, t.currency)),
owed as (
  select t.period || ':' || t.partner as reference, t.currency, coalesce(sum(total_minor) filter (direction = 'out'), 0) as receivable_minor,
         coalesce(sum(total_minor) filter (direction = 'in'), 0) as payable_minor
  from totals t join runs r on r.period = t.period where r.state = 'done' group by all),
nettings as (
  select period || ':' || partner as reference, currency, 'to which the partner agreed' as whose, receivable_minor, payable_minor
  from lines where event in ('netting_agreed', 'netting_repeated')
  union all
  select period || ':' || partner, currency, 'that the partner found', own_receivable_minor, own_payable_minor
  from lines where event in ('netting_agreed', 'netting_repeated')
  union all
  select period || ':' || partner, currency, 'that we keep', receivable_minor, payable_minor from roaming.netting
  union all
  select t.reference, a.currency, 'that moved in the ledger', coalesce(sum(p.amount_minor) filter (p.account_id like '%:receivable'), 0),
         -coalesce(sum(p.amount_minor) filter (p.account_id like '%:payable'), 0)
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  left join agreed a on a.partner = split_part(t.reference, ':', -1)
  where t.kind = 'netting' group by t.id, t.reference, a.currency)
select key as subject, 'accepted, but not among our TAP events' as problem, price_minor as expected_minor, null as found_minor
from sent left join rated on rated.record_id = sent.key anti join ours on ours.record_id = sent.key and ours.direction = 'out'
where accepted and key not in (select record_id from mediation.suspense)
union all
select o.record_id, case when s.key is null then 'nobody sent this visitor''s record' when s.refused then 'refused, but billed'
                         when o.partner <> s.partner then 'billed to another partner' when r.record_id is null then 'billed, and never rated'
                         when o.currency is distinct from a.currency then 'billed in another currency'
                         else 'billed at another price' end,
       r.price_minor, o.charge_minor
from ours o left join sent s on s.key = o.record_id left join rated r on r.record_id = o.record_id
left join agreed a on a.partner = o.partner
where o.direction = 'out' and (s.key is null or s.refused or o.partner <> s.partner or r.record_id is null
                               or o.currency is distinct from a.currency or o.charge_minor <> r.price_minor)
union all
select o.record_id, 'it came before the settlement began, and was not filed', o.charge_minor, null
from ours o where o.direction = 'out' and o.file_id is null
  and o.received_at_ns < (select max(started_at_ns) from runs)
union all
select coalesce(t.record_id, o.record_id), 'the partner''s event and ours differ', t.charge_minor, o.charge_minor
from theirs t full join (
    select e.* from ours e join roaming.tap_file f on f.id = e.file_id where f.transmitted_at is not null) o
  on (o.record_id, o.direction, o.partner, o.period) = (t.record_id, t.direction, t.partner, t.period)
where t.record_id is null or o.record_id is null or t.charge_minor <> o.charge_minor or t.currency is distinct from o.currency
union all
select record_id, 'the partner was billed for it more than once', null, count(*)
from theirs group by partner, direction, record_id having count(*) > 1
union all
select side, if(settled_minor is null, 'exchanged, but not settled', 'settled is not what was exchanged'), theirs_minor, settled_minor
from sides where settled_minor is distinct from theirs_minor
union all
select side, 'the ledger does not say what the partner''s side says', if(direction = 'out', -theirs_minor, theirs_minor), posted_minor
from sides left join ledger on ledger.reference = sides.side
where coalesce(posted_minor, 0) <> if(direction = 'out', -theirs_minor, theirs_minor)
union all
select n.reference, 'netted is not what was exchanged: the sums ' || string_agg(distinct whose, ', ' order by whose),
       any_value(coalesce(o.receivable_minor - o.payable_minor, 0)), any_value(n.receivable_minor - n.payable_minor)
from nettings n left join owed o on (o.reference, o.currency) = (n.reference, n.currency)
where exists (select 1 from runs where state = 'done' and period = split_part(n.reference, ':', 1))
  and (n.receivable_minor, n.payable_minor) is distinct from (coalesce(o.receivable_minor, 0), coalesce(o.payable_minor, 0))
group by n.reference
