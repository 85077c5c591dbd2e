-- id: rescued_percent
-- title: Share of payments rescued while cards were down
-- unit: percent
-- group: payments
-- applies: voucher agent_payment
--
-- Of the value of all that customers wanted to pay in that time, by whatever way: `rescued_minor` says which time,
-- and what is rescued. Not among it: amounts that would have been declined (ending in 13). Null where payments were
-- never down.
with rule as (select max(value) filter (name = 'payments_down_below_percent') as floor_percent from prices),
down as (
  select intended_ns // 1_000_000_000 as second from operations, rule where kind = 'topup'
  group by second, floor_percent having count(*) >= 3 and 100 * count(*) filter (outcome = 'ok') / count(*) < floor_percent),
credited as (select distinct key from charging.transaction where kind in ('voucher', 'agent')),
wanted as (
  select if(o.kind = 'voucher', [500, 1000, 2000][1 + substr(o.detail->>'code', 3)::bigint % 3], o.amount_minor) as minor,
         o.kind in ('voucher', 'agent_payment')
           and ((o.outcome = 'ok' and o.status < 400) or o.key in (select key from credited)) as rescued
  from operations o join down on down.second = o.intended_ns // 1_000_000_000
  where o.kind in ('voucher', 'agent_payment')
     or (o.kind in ('topup', 'invoice_payment') and o.amount_minor % 100 <> 13))
select 100 * coalesce(sum(minor) filter (rescued), 0) / nullif(sum(minor), 0) as value from wanted
