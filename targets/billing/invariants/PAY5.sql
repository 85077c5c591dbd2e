-- id: PAY5
-- title: The same key gives the same answer
-- applies: topup_replay topup_conflict voucher_again
-- needs: select (select count(*) from operations r where kind = 'topup_replay' and ref is not null and exists (select 1 from operations o where o.key = r.key and o.id <> r.id and o.kind in ('topup', 'topup_replay') and o.ref is not null)) + (select count(*) from operations c where kind = 'topup_conflict' and status between 200 and 499 and status not in (408, 409, 425, 429) and exists (select 1 from operations o where o.key = c.key and o.kind in ('topup', 'topup_replay') and o.outcome = 'ok' and coalesce(o.status, 200) < 400 and o.completed_ns < c.invoked_ns)) + (select count(*) from operations where kind = 'voucher_again' and status between 200 and 499 and status not in (408, 409, 425, 429))
--
-- Same key and payload => same payment and same result, and the answer says which. Another payload under
-- the key of an acknowledged payment => 422, and no effect; the code of a redeemed voucher under another key => 422
-- (PAY4 tells whether it was credited again). Only answers that can be compared are counted.
with same as (select * from operations where kind in ('topup', 'topup_replay')),
acknowledged as (
  select key, min(completed_ns) as acknowledged_ns, min(amount_minor) as amount_minor
  from same where outcome = 'ok' and coalesce(status, 200) < 400 group by key),
other as (
  select o.*, a.amount_minor as first_amount_minor from operations o join acknowledged a using (key)
  where o.kind = 'topup_conflict' and o.invoked_ns > a.acknowledged_ns)
select key as subject, 'one key, several payments' as problem, string_agg(distinct ref, ', ') as answers
from same where ref is not null group by key having count(distinct ref) > 1
union all
select key, 'one key, several results', string_agg(distinct result::varchar, ', ')
from same where outcome = 'ok' and result is not null group by key having count(distinct result) > 1
union all
select key, 'acknowledged, without saying which payment or what amount', status::varchar
from same where outcome = 'ok' and coalesce(status, 200) < 400 and (ref is null or result is null)
union all
select s.key, 'acknowledged, but its repetition was refused', s.status::varchar
from same s join acknowledged a using (key)
where s.invoked_ns > a.acknowledged_ns and s.outcome = 'fail' and s.status between 400 and 499
union all
select key, 'another payload under its key was not refused with 422', status::varchar
from other where status between 200 and 499 and status not in (408, 409, 422, 425, 429)
union all
select other.key, 'another payload under its key was captured', w.amount_minor::varchar
from other join witness.psp w on w.merchant_reference = other.key
where w.event = 'capture' and w.amount_minor = other.amount_minor and other.amount_minor <> first_amount_minor
union all
select other.key, 'another payload under its key was stored', p.amount_minor::varchar
from other join payments.payment p using (key)
where p.amount_minor = other.amount_minor and other.amount_minor <> first_amount_minor
union all
select v.key, 'a redeemed voucher was not refused with 422', v.status::varchar
from operations v where v.kind = 'voucher_again' and v.status between 200 and 499 and v.status not in (408, 409, 422, 425, 429)
  and exists (select 1 from operations o where o.kind = 'voucher' and o.outcome = 'ok' and o.detail->>'code' = v.detail->>'code'
              and o.completed_ns < v.invoked_ns)
