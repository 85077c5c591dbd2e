-- id: PAY1
-- title: No acknowledged payment is lost
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from operations where kind in ('topup', 'topup_replay') and outcome = 'ok' and coalesce(status, 200) < 400
-- impact: acknowledged_writes_lost where credited_minor < amount_minor
--
-- ok(k) => the PSPs hold exactly the amount, net of refunds, and the subscriber's account was credited
-- with exactly the amount, and the payment is settled in its own books. (`ok` with a status of 400 or more is a refusal that was due.) The client says what was acknowledged, the PSPs' logs what was taken.
with acknowledged as (
  select key, min(subscriber) as subscriber, min(amount_minor) as amount_minor, min(completed_ns) as acknowledged_ns
  from operations where kind in ('topup', 'topup_replay') and outcome = 'ok' and coalesce(status, 200) < 400 group by key),
captured as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
credited as (
  select t.key, sum(p.amount_minor) as net_minor, min(p.account_id) as account, max(p.account_id) as other_account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'topup' and p.account_id like 'sub:%' group by all),
compared as (
  select a.*, coalesce(c.net_minor, 0) as captured_minor, coalesce(l.net_minor, 0) as credited_minor,
         exists (select 1 from payments.payment p where p.key = a.key and p.state = 'settled') as settled,
         coalesce(l.account = 'sub:' || subscriber || ':main' and l.account = l.other_account, true) as right_account
  from acknowledged a left join captured c using (key) left join credited l using (key))
select key as subject,
       case when credited_minor <> amount_minor then 'acknowledged, but not credited with its amount'
            when captured_minor <> amount_minor then 'acknowledged, but the PSPs do not hold its amount'
            when not settled then 'acknowledged, but not settled in the books of payments'
            else 'credited to another account' end as problem,
       amount_minor, captured_minor, credited_minor, acknowledged_ns
from compared
where captured_minor <> amount_minor or credited_minor <> amount_minor or not settled or not right_account
