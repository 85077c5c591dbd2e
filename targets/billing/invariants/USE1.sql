-- id: USE1
-- title: Usage is rated exactly once, and right
-- applies: usage roaming
-- needs: select count(*) from operations where kind in ('usage', 'roaming') and outcome = 'ok'
-- impact: usage_not_accounted
--
-- Accepted records = rated plus suspended, each in exactly one, and each as the client sent it. The
-- oracle rates the client's units by the tariff written down here, half up. A home subscriber's record
-- is debited exactly once, a visitor's never: that one becomes an event to bill its partner with.
with tariff(service, price_micro) as (values ('data', 20_000), ('voice', 150_000), ('sms', 5_000_000)),
sent as (
  select key, min(kind) as kind, min(subscriber) as subscriber, min(detail->>'service') as service,
         min((detail->>'units')::bigint) as units, min(detail->>'partner') as partner,
         bool_or(outcome = 'ok') as accepted, bool_and(outcome = 'fail') as refused
  from operations where kind in ('usage', 'roaming') group by key),
oracle as (
  select sent.*, (units * price_micro + 500_000) // 1_000_000 as price_minor,
         price_minor is not null and price_minor <= 1_000_000_000_000
           and (partner is null or partner in ('alfa', 'beta')) as ratable
  from sent left join tariff using (service)),
debits as (
  select t.key, count(distinct t.id) as debits, -sum(p.amount_minor) as debited_minor, min(p.account_id) as account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'usage' and p.account_id like 'sub:%' group by all),
places as (
  select key, count(*) filter (place = 'raw') as raw, count(*) filter (place = 'rated') as rated,
         count(*) filter (place = 'suspended') as suspended
  from (select record_id as key, 'raw' as place from mediation.cdr_raw
        union all select record_id, 'rated' from mediation.cdr_rated
        union all select record_id, 'suspended' from mediation.suspense
        union all select key, 'debited' from debits
        union all select record_id, 'billed' from roaming.tap_event where direction = 'out')
  group by key),
joined as (
  select coalesce(o.key, p.key) as key, o.* exclude (key), coalesce(p.raw, 0) as raw, coalesce(p.rated, 0) as rated,
         coalesce(p.suspended, 0) as suspended, r.charge_minor, r.subscriber as rated_subscriber, r.units as rated_units,
         r.service as rated_service, r.visitor_of, coalesce(d.debits, 0) as debits, d.debited_minor, d.account,
         e.record_id is not null as billed, e.partner as billed_partner, e.charge_minor as billed_minor
  from oracle o full join places p on p.key = o.key
  left join mediation.cdr_rated r on r.record_id = coalesce(o.key, p.key)
  left join debits d on d.key = coalesce(o.key, p.key)
  left join roaming.tap_event e on e.direction = 'out' and e.record_id = coalesce(o.key, p.key)),
judged as (
  select *, case
    when kind is null then 'nobody sent this record'
    when refused and (raw > 0 or rated > 0 or debits > 0 or billed) then 'refused, but taken all the same'
    when accepted and raw = 0 then 'accepted, and lost'
    when raw > 0 and rated + suspended = 0 then 'neither rated nor suspended'
    when raw = 0 and rated + suspended > 0 then 'rated or suspended, but not among the accepted records'
    when rated + suspended > 1 then 'counted more than once'
    when suspended > 0 and ratable then 'suspended, though it can be rated'
    when rated > 0 and not ratable then 'rated, though it has no price'
    when rated > 0 and (rated_subscriber <> subscriber or rated_units <> units or rated_service <> service
                        or visitor_of is distinct from partner) then 'rated as something else than was sent'
    when rated > 0 and charge_minor <> price_minor then 'rated at another price'
    when debits > 1 then 'debited more than once'
    when rated > 0 and partner is null and debits = 0 then 'rated, but never debited'
    when debits > 0 and (rated = 0 or partner is not null) then 'debited, though it is not the subscriber''s to pay'
    when debits = 1 and debited_minor <> price_minor then 'debited with another amount'
    when debits = 1 and account <> 'sub:' || subscriber || ':main' then 'debited to somebody else'
    when rated > 0 and partner is not null and not billed then 'rated, but its partner is not billed'
    when billed and (rated = 0 or partner is null) then 'billed to a partner, though it is not the partner''s to pay'
    when billed and (billed_partner <> partner or billed_minor <> price_minor) then 'billed to another partner or at another price'
  end as problem
  from joined)
select key as subject, problem, service, units, price_minor, charge_minor, debited_minor, raw, rated, suspended, debits
from judged where problem is not null
