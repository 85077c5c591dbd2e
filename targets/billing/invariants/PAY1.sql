-- id: PAY1
-- title: No acknowledged payment is lost
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment
-- needs: select count(*) from operations where kind in ('topup', 'topup_replay', 'invoice_payment', 'voucher', 'agent_payment') and outcome = 'ok' and coalesce(status, 200) < 400
-- impact: acknowledged_writes_lost where credited_minor < amount_minor
--
-- ok(k) => the subscriber's account was credited with exactly the amount, the PSPs hold exactly the amount
-- (of a voucher or an agent's receipt: nothing), and the payment is settled in its own books. (`ok` with a status of
-- 400 or more is a refusal that was due.) The client says what was acknowledged, the PSPs' logs what was taken. What
-- a client asked to have back counts as held: PAY6 judges that. A voucher's amount follows from its code. A
-- receipt is acknowledged by the batch that it was taken for, or by any later one that carried it.
with asked_back as (select distinct detail->>'of' as key from operations where kind = 'refund'),
batches as (
  select key, completed_ns, unnest(list_append(from_json(json_extract(detail, '$.carried'), '["VARCHAR"]'), key)) as receipt
  from operations where kind = 'agent_payment' and outcome = 'ok'),
acknowledged as (
  select key, 'psp' as channel, min(subscriber) as subscriber, min(amount_minor) as amount_minor,
         null as answered_minor, min(completed_ns) as acknowledged_ns
  from operations where kind in ('topup', 'topup_replay', 'invoice_payment') and outcome = 'ok' and coalesce(status, 200) < 400
  group by key
  union all
  select key, 'voucher', subscriber, case substr(detail->>'code', 3)::int % 3 when 0 then 500 when 1 then 1000 else 2000 end,
         result, completed_ns
  from operations where kind = 'voucher' and outcome = 'ok' and coalesce(status, 200) < 400
  union all
  select o.key, 'agent', min(o.subscriber), min(o.amount_minor), null, min(b.completed_ns)
  from batches b join operations o on o.key = b.receipt and o.kind = 'agent_payment' group by o.key),
captured as (
  select merchant_reference as key, sum(case when event = 'capture' then amount_minor when a.key is null then -amount_minor else 0 end) as net_minor
  from witness.psp w left join asked_back a on a.key = w.merchant_reference where event in ('capture', 'refund') group by all),
credited as (
  select t.key, sum(p.amount_minor) as net_minor, min(p.account_id) as account, max(p.account_id) as other_account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('topup', 'invoice_payment', 'voucher', 'agent') and p.account_id like 'sub:%' group by all),
compared as (
  select a.*, if(channel = 'psp', amount_minor, 0) as due_minor, coalesce(c.net_minor, 0) as captured_minor, coalesce(l.net_minor, 0) as credited_minor,
         exists (select 1 from payments.payment p where p.key = a.key and p.state = 'settled') as settled,
         coalesce(answered_minor = amount_minor, true) as right_answer,
         coalesce(l.account = 'sub:' || subscriber || ':main' and l.account = l.other_account, true) as right_account
  from acknowledged a left join captured c using (key) left join credited l using (key))
select key as subject,
       case when credited_minor <> amount_minor then 'acknowledged, but not credited with its amount'
            when captured_minor <> due_minor then 'acknowledged, but the PSPs do not hold what they should'
            when not settled then 'acknowledged, but not settled in the books of payments'
            when not right_answer then 'acknowledged with another amount than its voucher has'
            else 'credited to another account' end as problem,
       channel, amount_minor, captured_minor, credited_minor, acknowledged_ns
from compared
where captured_minor <> due_minor or credited_minor <> amount_minor or not settled or not right_answer or not right_account
