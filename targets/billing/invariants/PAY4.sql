-- id: PAY4
-- title: Nobody pays or is credited twice
-- applies: topup topup_replay topup_conflict invoice_payment voucher voucher_again agent_payment
-- needs: select (select count(*) from witness.psp where event = 'capture') + (select count(*) from charging.transaction where kind in ('voucher', 'agent'))
-- impact: double_charges where live_captures > 1
--
-- Per client key (an agent's receipt is its key): at most one capture that was not given back, summed over all PSPs
-- and all keys under which a PSP knows it; at most one credit in the ledger, summed over all channels. And
-- per voucher code, whatever keys it was tried under, at most one credit.
with captures as (
  select merchant_reference as key, witness, key as psp_key, amount_minor from witness.psp where event = 'capture'),
given_back as (select distinct witness, key as psp_key from witness.psp where event = 'refund'),
live as (
  select key, count(*) as live_captures, sum(amount_minor) as held_minor, string_agg(witness, ', ' order by witness) as psps
  from captures anti join given_back using (witness, psp_key) group by key having count(*) > 1),
credited as (select key, kind from charging.transaction where kind in ('topup', 'invoice_payment', 'voucher', 'agent')),
credits as (select key, count(*) as credits from credited group by key having count(*) > 1),
codes as (
  select o.detail->>'code' as code, o.key from operations o join credited c on c.key = o.key and c.kind = 'voucher'
  where o.kind in ('voucher', 'voucher_again') group by all)
select coalesce(live.key, credits.key) as subject,
       if(live.key is null, 'credited more than once', 'captured more than once') as problem,
       coalesce(live_captures, 1) as live_captures, held_minor, psps, coalesce(credits, 1) as credits
from live full join credits on live.key = credits.key
union all
select code, 'one voucher was credited under several keys', 0, null, null, count(*)
from codes group by code having count(*) > 1
