-- id: leakage_minor
-- title: Service given away: granted by nobody who charges, or used beyond bucket and balance
-- unit: minor
-- group: usage and charging
-- applies: session
--
-- At list price: what edge granted by itself while charging was away (`continue`), with what such sessions
-- had reported and charging never took; and what sessions say has leaked of them.
with price(service, micro) as (values ('data', 20_000::bigint), ('voice', 150_000::bigint)),
free as (
  select o.key, price.micro,
         ((o.detail->'granted')::bigint[])[-1]
         + greatest(list_sum((o.detail->'reported')::bigint[]) - coalesce(s.used_units, 0), 0) as units
  from operations o join price on price.service = o.detail->>'service'
  left join charging.session s on s.id = o.key
  where o.kind = 'session' and o.detail->>'failure_handling' = 'continue')
select (coalesce((select sum((units * micro + 500_000) // 1_000_000) from free), 0)
        + coalesce((select sum(leaked_minor) from charging.session), 0))::bigint as value
