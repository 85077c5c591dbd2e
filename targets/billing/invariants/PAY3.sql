-- id: PAY3
-- title: Every payment in doubt is resolved
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from operations where kind = 'topup'
--
-- unknown(k) => finally terminal; what the PSPs hold is what was credited, and that is nothing or
-- one of the amounts that were asked for. No payment at all may stay in doubt.
with asked as (
  select key, list(distinct amount_minor) as amounts, bool_or(outcome = 'ok' and coalesce(status, 200) < 400 and kind <> 'topup_conflict') as acknowledged,
         bool_and(outcome = 'fail' or (outcome = 'ok' and status >= 400)) as refused
  from operations where kind in ('topup', 'topup_replay', 'topup_conflict') group by key),
doubtful as (select key, amounts from asked where not acknowledged and not refused),
captured as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
credited as (
  select t.key, sum(p.amount_minor) as net_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'topup' and p.account_id like 'sub:%' group by all),
compared as (
  select key, amounts, coalesce(c.net_minor, 0) as captured_minor, coalesce(l.net_minor, 0) as credited_minor
  from doubtful left join captured c using (key) left join credited l using (key))
select key as subject, 'unknown to the client, and the PSPs and the ledger disagree' as problem,
       captured_minor, credited_minor, null as state
from compared where captured_minor <> credited_minor
union all
select key, 'unknown to the client, and neither nothing nor its amount was taken', captured_minor, credited_minor, null
from compared where captured_minor = credited_minor and captured_minor <> 0 and not list_contains(amounts, captured_minor)
union all
select key, 'still in doubt at the end', null, null, state
from payments.payment where state not in ('settled', 'failed')
union all
select p.key, 'its conversation with ' || a.psp || ' was never ended', null, null, a.state
from payments.psp_attempt a join payments.payment p on p.id = a.payment_id
where a.state in ('open', 'unknown') and p.state in ('settled', 'failed')
