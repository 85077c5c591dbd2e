-- id: rescued_minor
-- title: Paid by voucher or agent while cards were down
-- unit: minor
-- group: payments
-- applies: voucher agent_payment
--
-- Down: the seconds in which less than half of the top-ups ended ok, by the setting; a second with fewer than three
-- says nothing. Of what customers wanted to pay in them: vouchers and agents' receipts that were acknowledged or,
-- in the end, credited.
with rule as (select max(value) filter (name = 'payments_down_below_percent') as floor_percent from prices),
seconds as (
  select intended_ns // 1_000_000_000 as second, 100 * count(*) filter (outcome = 'ok') / count(*) as ok_percent
  from operations where kind = 'topup' group by all having count(*) >= 3),
down as (select second from seconds, rule where ok_percent < floor_percent),
credited as (select distinct key from charging.transaction where kind in ('voucher', 'agent')),
rescued as (
  select if(o.kind = 'voucher', [500, 1000, 2000][1 + substr(o.detail->>'code', 3)::bigint % 3], o.amount_minor) as minor
  from operations o join down on down.second = o.intended_ns // 1_000_000_000
  where o.kind in ('voucher', 'agent_payment')
    and ((o.outcome = 'ok' and o.status < 400) or o.key in (select key from credited)))
select if((select floor_percent from rule) is null or not exists (select 1 from seconds), null, coalesce(sum(minor), 0)) as value
from rescued
