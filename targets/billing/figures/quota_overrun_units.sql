-- id: quota_overrun_units
-- title: Kilobytes and seconds beyond the quota, unpaid
-- unit: count
-- group: usage and charging
-- applies: session
--
-- What leaked, as its sessions say; and of what went on without charging (`continue`) what the bucket had no room for,
-- even by what was left in it at the end. Units of data and of voice are added up as they are. What it is worth:
-- `leakage_minor`, which also counts what was free within the quota.
with free as (
  select o.subscriber, o.detail->>'service' as service,
         sum(coalesce(((o.detail->'granted')::bigint[])[-1], 0)
             + greatest(coalesce(list_sum((o.detail->'reported')::bigint[]), 0) - coalesce(s.used_units, 0), 0)) as units
  from operations o left join charging.session s on s.id = o.key
  where o.kind = 'session' and o.detail->>'failure_handling' = 'continue' group by all)
select coalesce((select sum(leaked_units) from charging.session), 0)
       + coalesce((select sum(greatest(f.units - (b.quota_units - b.used_units), 0))
                   from free f join charging.bucket b on (b.subscriber, b.service) = (f.subscriber, f.service)), 0) as value
