-- id: PAY3
-- title: Every payment in doubt is resolved
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment
-- needs: select count(*) from operations where kind in ('topup', 'invoice_payment', 'voucher', 'agent_payment')
--
-- unknown(k) => finally terminal; what the PSPs hold is what was credited, and that is nothing or
-- one of the amounts that were asked for. No payment at all may stay in doubt. What payments kept of a voucher or a
-- receipt is credited, whatever its client heard. And what a PSP told by a call-back, and was confirmed, is kept.
with asked as (
  select key, list(distinct amount_minor) as amounts, bool_or(outcome = 'ok' and coalesce(status, 200) < 400 and kind <> 'topup_conflict') as acknowledged,
         bool_and(outcome = 'fail' or (outcome = 'ok' and status >= 400)) as refused
  from operations where kind in ('topup', 'topup_replay', 'topup_conflict', 'invoice_payment') group by key),
doubtful as (select key, amounts from asked where not acknowledged and not refused),
captured as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
postings as (
  select t.kind, t.key, t.reference, p.amount_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id where p.account_id like 'sub:%'),
credited as (
  select key, sum(amount_minor) as net_minor from postings where kind in ('topup', 'invoice_payment', 'refund') group by key),
compared as (
  select key, amounts, coalesce(c.net_minor, 0) as captured_minor, coalesce(l.net_minor, 0) as credited_minor
  from doubtful left join captured c using (key) left join credited l using (key)),
kept as (
  select p.key, p.kind, p.amount_minor, coalesce(sum(l.amount_minor), 0) as credited_minor, p.state
  from payments.payment p left join postings l on l.kind = p.kind and l.reference = p.id
  where p.kind in ('voucher', 'agent') group by p.id, p.key, p.kind, p.amount_minor, p.state)
select key as subject, 'unknown to the client, and the PSPs and the ledger disagree' as problem,
       captured_minor, credited_minor, null as state
from compared where captured_minor <> credited_minor
union all
select key, 'unknown to the client, and neither nothing nor its amount was taken', captured_minor, credited_minor, null
from compared where captured_minor = credited_minor and captured_minor <> 0 and not list_contains(amounts, captured_minor)
union all
select key, 'its ' || kind || ' was taken, and not credited with its amount', null, credited_minor, state
from kept where credited_minor <> amount_minor
union all
select key, 'still in doubt at the end', null, null, state
from payments.payment where state not in ('settled', 'failed')
union all
select p.key, 'its conversation with ' || a.psp || ' was never ended', null, null, a.state
from payments.psp_attempt a join payments.payment p on p.id = a.payment_id
where a.state in ('open', 'unknown') and p.state in ('settled', 'failed')
union all
select coalesce(p.key, w.key), 'its call-back ' || w.callback_id || ' was confirmed, and is not kept', w.amount_minor, null, p.state
from witness.psp w left join payments.payment p on p.id = w.key
where w.event = 'callback' and w.status < 300 and w.at_ns < (select load_ended_ns from timeline) and not exists (
  select 1 from payments.psp_callback c
  where c.callback_id = w.callback_id and c.psp = replace(w.witness, '-', '_') and c.event = w.told and c.key = w.key)
