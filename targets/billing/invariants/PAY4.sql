-- id: PAY4
-- title: Nobody pays or is credited twice
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from witness.psp where event = 'capture'
-- impact: double_charges where live_captures > 1
--
-- Per client key: at most one capture that was not given back, summed over all PSPs and all keys
-- under which a PSP knows it; at most one credit in the ledger.
with captures as (
  select merchant_reference as key, witness, key as psp_key, amount_minor from witness.psp where event = 'capture'),
given_back as (select distinct witness, key as psp_key from witness.psp where event = 'refund'),
live as (
  select key, count(*) as live_captures, sum(amount_minor) as held_minor, string_agg(witness, ', ' order by witness) as psps
  from captures anti join given_back using (witness, psp_key) group by key having count(*) > 1),
credits as (
  select key, count(*) as credits from charging.transaction where kind = 'topup' group by key having count(*) > 1)
select coalesce(live.key, credits.key) as subject,
       if(live.key is null, 'credited more than once', 'captured more than once') as problem,
       coalesce(live_captures, 1) as live_captures, held_minor, psps, coalesce(credits, 1) as credits
from live full join credits on live.key = credits.key
