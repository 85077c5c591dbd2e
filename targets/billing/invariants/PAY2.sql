-- id: PAY2
-- title: No ghost payment
-- applies: topup
-- needs: select count(*) from operations where kind = 'topup'
--
-- fail(k) => nothing was taken and nothing credited. Every capture and every credit traces to an
-- operation of a client: its key, its subscriber, one of its amounts, and not before it was invoked.
-- The books of payments know each capture, and say settled or failed as the PSPs do.
with asked as (
  select key, subscriber, amount_minor, invoked_ns,
         outcome = 'fail' or (outcome = 'ok' and status >= 400) as refused
  from operations where kind in ('topup', 'topup_replay', 'topup_conflict')),
refused as (select key from asked group by key having bool_and(refused)),
taken as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
credits as (
  select t.key, p.account_id, p.amount_minor, t.created_at_ns as at_ns
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'topup' and p.account_id not like 'psp_%'),
effects as (
  select key, amount_minor, account_id, at_ns, 'credited' as what from credits
  union all
  select merchant_reference, amount_minor, 'sub:' || subscriber || ':main', at_ns, 'captured'
  from witness.psp where event = 'capture'),
books as (
  select p.id, p.key, p.amount_minor, p.state, coalesce(sum(if(w.event = 'capture', w.amount_minor, -w.amount_minor)), 0) as held_minor
  from payments.payment p left join witness.psp w on w.payment_id = p.id and w.event in ('capture', 'refund') group by all)
select key as subject, 'refused, but captured' as problem, net_minor as amount_minor, null as at_ns
from refused join taken using (key) where net_minor <> 0
union all
select key, 'refused, but credited', amount_minor, at_ns from refused join credits using (key)
union all
select e.key, e.what || ' without an operation that asked for it', e.amount_minor, e.at_ns
from effects e anti join asked a
  on a.key = e.key and a.amount_minor = e.amount_minor and e.account_id = 'sub:' || a.subscriber || ':main'
  and a.invoked_ns <= e.at_ns
union all
select key, 'settled in the books of payments, but the PSPs do not hold its amount', held_minor, null
from books where state = 'settled' and held_minor <> amount_minor
union all
select key, 'failed in the books of payments, but the PSPs hold money', held_minor, null
from books where state = 'failed' and held_minor <> 0
union all
select w.merchant_reference, 'captured for a payment that payments does not know', w.amount_minor, w.at_ns
from witness.psp w anti join payments.payment p on p.id = w.payment_id where w.event = 'capture'
