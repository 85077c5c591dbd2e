-- id: PAY2
-- title: No ghost payment
-- applies: topup topup_replay topup_conflict invoice_payment voucher voucher_again agent_payment
-- needs: select count(*) from asked
--
-- fail(k) => nothing was taken and nothing credited. Every capture and every credit of whatever channel traces
-- to an operation of a client: its key, its kind, its subscriber, one of its amounts (a voucher's follows from its
-- code), and not before it was invoked. The books of payments know each capture, and say settled or failed as the
-- PSPs do; what came by another channel no PSP has.
-- Nothing but these credits a subscriber, but for what other invariants trace (usage that is reversed, compensation):
-- openings were before the load; charges, usage, sessions and refunds only take; a reservation only moves what one
-- subscriber has; and no other kind touches a subscriber's account. And PSP by PSP the ledger has as cash what that
-- one's own log holds (of payments still in doubt PAY3 speaks, of refunds in doubt PAY6).
with asked as (
  select key, case when kind like 'topup%' then 'topup' when kind like 'voucher%' then 'voucher'
                   when kind = 'agent_payment' then 'agent' else kind end as kind,
         subscriber, invoked_ns,
         if(kind not like 'voucher%', amount_minor,
            case substr(detail->>'code', 3)::int % 3 when 0 then 500 when 1 then 1000 else 2000 end) as amount_minor,
         outcome = 'fail' or (outcome = 'ok' and status >= 400) as refused
  from operations
  where kind in ('topup', 'topup_replay', 'topup_conflict', 'invoice_payment', 'voucher', 'voucher_again', 'agent_payment')),
refused as (select key from asked group by key having bool_and(refused)),
taken as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
credits as (
  select t.key, t.kind, p.account_id, p.amount_minor, t.created_at_ns as at_ns
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('topup', 'invoice_payment', 'voucher', 'agent')
    and not regexp_matches(p.account_id, '^(psp_.*|voucher:liability|agent:cash)$')),
effects as (
  select key, [kind] as kinds, amount_minor, account_id, at_ns, 'credited' as what from credits
  union all
  select merchant_reference, ['topup', 'invoice_payment'], amount_minor, 'sub:' || subscriber || ':main', at_ns, 'captured'
  from witness.psp where event = 'capture'),
moved as (
  select t.key, t.kind, sum(p.amount_minor) as amount_minor, t.created_at_ns as at_ns
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where p.account_id like 'sub:%'
  group by t.id, t.key, t.kind, t.created_at_ns, split_part(p.account_id, ':', 2)),
holdings as (
  select replace(w.witness, '-', '_') || ':cash' as account_id,
         sum(if(w.event = 'capture', w.amount_minor, -w.amount_minor)) as held_minor
  from witness.psp w left join payments.payment p on p.id = w.payment_id left join payments.refund r on r.payment_id = p.id
  where (w.event = 'capture' or (w.event = 'refund' and coalesce(r.state = 'done', true)))
    and coalesce(p.state in ('settled', 'failed'), true) group by all),
cash as (
  select account_id, -sum(amount_minor) as posted_minor from charging.posting
  where starts_with(account_id, 'psp') group by all),
held as (
  select payment_id as id, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
books as (
  select p.key, p.state, coalesce(p.kind, 'topup') in ('topup', 'invoice') as by_psp, coalesce(h.net_minor, 0) as held_minor,
         if(by_psp and r.state is null, p.amount_minor, 0) as due_minor
  from payments.payment p left join held h using (id) left join payments.refund r on r.payment_id = p.id
  where coalesce(r.state = 'done', true))
select key as subject, 'refused, but captured' as problem, net_minor as amount_minor, null as at_ns
from refused join taken using (key) where net_minor <> 0
union all
select key, 'refused, but credited', amount_minor, at_ns from refused join credits using (key)
union all
select e.key, e.what || ' without an operation that asked for it', e.amount_minor, e.at_ns
from effects e anti join asked a
  on a.key = e.key and list_contains(e.kinds, a.kind) and a.amount_minor = e.amount_minor
  and e.account_id = 'sub:' || a.subscriber || ':main' and a.invoked_ns <= e.at_ns
union all
select key, if(by_psp, 'settled in the books of payments, but the PSPs do not hold what is due', 'paid by another channel, and held by a PSP'),
       held_minor, null
from books where state = 'settled' and held_minor <> due_minor
union all
select key, 'failed in the books of payments, but the PSPs hold money', held_minor, null
from books where state = 'failed' and held_minor <> 0
union all
select c.key, 'credited, but payments does not know it', c.amount_minor, c.at_ns
from credits c semi join asked using (key) anti join refused using (key) anti join payments.payment p using (key)
union all
select w.merchant_reference, 'captured for a payment that payments does not know', w.amount_minor, w.at_ns
from witness.psp w anti join payments.payment p on p.id = w.payment_id where w.event = 'capture'
union all
select key, case when kind = 'opening' then 'opened with money after load had begun'
                 when kind in ('charge', 'usage', 'session', 'refund') then 'a ' || kind || ' that gives money'
                 when kind in ('reserve', 'release') then 'a ' || kind || ' that changes what the subscriber has'
                 when kind in ('usage_reversal', 'compensation') then 'a ' || kind || ' that takes money'
                 else 'a ' || kind || ' moves a subscriber''s money' end, amount_minor, at_ns
from moved, timeline
where case when kind in ('topup', 'invoice_payment', 'voucher', 'agent') then false
           when kind = 'opening' then at_ns >= load_started_ns
           when kind in ('charge', 'usage', 'session', 'refund') then amount_minor > 0
           when kind in ('reserve', 'release') then amount_minor <> 0
           when kind in ('usage_reversal', 'compensation') then amount_minor < 0
           else true end
union all
select account_id, 'the ledger has ' || coalesce(posted_minor, 0) || ' as cash of this PSP, whose own log holds this',
       coalesce(held_minor, 0), null
from cash full join holdings using (account_id) where coalesce(posted_minor, 0) <> coalesce(held_minor, 0)
