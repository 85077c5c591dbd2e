-- id: PAY2
-- title: No ghost payment
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from operations where kind in ('topup', 'topup_replay', 'topup_conflict')
--
-- fail(k) => nothing was taken and nothing credited. Every capture and every credit traces to an
-- operation of a client: its key, its subscriber, one of its amounts, and not before it was invoked.
-- The books of payments know each capture, and say settled or failed as the PSPs do.
-- Nothing but these credits a subscriber: openings were before the load, charges and usage only take
-- (LED3 and USE1 trace those), and no other kind touches a subscriber's account. And PSP by PSP the
-- ledger has as cash what that one's own log holds (of payments still in doubt PAY3 speaks).
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
moved as (
  select t.key, t.kind, p.account_id, p.amount_minor, t.created_at_ns as at_ns
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where p.account_id like 'sub:%'),
holdings as (
  select replace(w.witness, '-', '_') || ':cash' as account_id,
         sum(if(w.event = 'capture', w.amount_minor, -w.amount_minor)) as held_minor
  from witness.psp w left join payments.payment p on p.id = w.payment_id
  where w.event in ('capture', 'refund') and coalesce(p.state in ('settled', 'failed'), true) group by all),
cash as (
  select account_id, -sum(amount_minor) as posted_minor from charging.posting
  where starts_with(account_id, 'psp') group by all),
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
union all
select key, case when kind = 'opening' then 'opened with money after load had begun'
                 when kind in ('charge', 'usage') then 'a ' || kind || ' that gives money'
                 else 'a ' || kind || ' moves a subscriber''s money' end, amount_minor, at_ns
from moved, timeline
where kind not in ('opening', 'topup', 'charge', 'usage') or (kind = 'opening' and at_ns >= load_started_ns)
   or (kind in ('charge', 'usage') and amount_minor > 0)
union all
select account_id, 'the ledger has ' || coalesce(posted_minor, 0) || ' as cash of this PSP, whose own log holds this',
       coalesce(held_minor, 0), null
from cash full join holdings using (account_id) where coalesce(posted_minor, 0) <> coalesce(held_minor, 0)
