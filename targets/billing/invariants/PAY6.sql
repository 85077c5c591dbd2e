-- id: PAY6
-- title: What is given back is what was asked for, once
-- applies: refund
-- needs: select count(*) from operations where kind = 'refund' and outcome = 'ok' and coalesce(status, 200) < 400
-- impact: refunds_missing where problem = 'acknowledged, but not given back by the PSPs with exactly its amount'
--
-- ok(refund of k) => the PSPs gave back exactly k's amount, once, and the ledger took it from the subscriber, once;
-- the books of payments say so. No refund without a request, nor after a refusal; never more is given back than
-- was taken, and by whom it was taken. What is unknown to the client ends on both sides alike; none stays pending.
-- (`key` of the client's row is that of its request, `detail.of` the key of the payment.)
with asked as (
  select detail->>'of' as key, subscriber, amount_minor, invoked_ns, outcome = 'ok' and coalesce(status, 200) < 400 as acknowledged,
         outcome = 'fail' or (outcome = 'ok' and status >= 400) as refused
  from operations where kind = 'refund' and detail->>'of' is not null),
acknowledged as (select distinct key, subscriber, amount_minor from asked where acknowledged),
refused as (select key from asked group by key having bool_and(refused)),
money as (select * from witness.psp where event in ('capture', 'refund')),
given as (
  select merchant_reference as key, count(*) as times, sum(amount_minor) as given_minor, min(at_ns) as at_ns
  from money where event = 'refund' group by all),
posted as (
  select t.key, count(distinct t.id) as times, -sum(p.amount_minor) as posted_minor, min(t.created_at_ns) as at_ns,
         min(p.account_id) as account, max(p.account_id) as other_account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'refund' and p.account_id like 'sub:%' group by t.key),
booked as (
  select p.key, count(*) as times, bool_and(r.state = 'done') as done, min(r.amount_minor) as least_minor, max(r.amount_minor) as most_minor
  from payments.refund r join payments.payment p on p.id = r.payment_id group by p.key)
select a.key as subject, 'acknowledged, but not given back by the PSPs with exactly its amount' as problem,
       a.amount_minor, coalesce(g.given_minor, 0) as found_minor, g.times
from acknowledged a left join given g using (key)
where g.times is distinct from 1 or g.given_minor <> a.amount_minor
union all
select a.key, 'acknowledged, but the ledger has not taken exactly its amount from its subscriber', a.amount_minor, coalesce(l.posted_minor, 0), l.times
from acknowledged a left join posted l using (key)
where l.times is distinct from 1 or l.posted_minor <> a.amount_minor
   or l.account <> 'sub:' || a.subscriber || ':main' or l.account <> l.other_account
union all
select a.key, 'acknowledged, but not done in the books of payments', a.amount_minor, b.least_minor, b.times
from acknowledged a left join booked b using (key)
where not coalesce(b.done and b.times = 1 and b.least_minor = a.amount_minor and b.most_minor = a.amount_minor, false)
union all
select key, 'given back, though nobody asked for it', null, given_minor, times
from given g where not exists (
  select 1 from asked a where a.key = g.key and a.amount_minor = g.given_minor // g.times and a.invoked_ns <= g.at_ns)
union all
select key, 'taken from the subscriber, though nobody asked for it', null, posted_minor, times
from posted l where not exists (
  select 1 from asked a where a.key = l.key and a.amount_minor = l.posted_minor // l.times and a.invoked_ns <= l.at_ns)
union all
select key, 'refused, but given back', null, given_minor, times from refused join given using (key)
union all
select key, 'refused, but taken from the subscriber', null, posted_minor, times from refused join posted using (key)
union all
select any_value(merchant_reference), 'more was given back by ' || witness || ' than it had taken',
       coalesce(sum(amount_minor) filter (event = 'capture'), 0), sum(amount_minor) filter (event = 'refund'), count(*) filter (event = 'refund')
from money group by witness, key
having sum(amount_minor) filter (event = 'refund') > coalesce(sum(amount_minor) filter (event = 'capture'), 0)
union all
select key, 'unknown to the client, and the PSPs and the ledger disagree', given_minor, posted_minor, null
from (select distinct key from asked anti join acknowledged using (key) anti join refused using (key)) doubtful
left join given using (key) left join posted using (key)
where coalesce(given_minor, 0) <> coalesce(posted_minor, 0)
union all
select key, 'done in the books of payments with another amount than was given back', least_minor, given_minor, b.times
from booked b left join given g using (key) anti join acknowledged using (key)
where done and (least_minor <> most_minor or least_minor * b.times is distinct from given_minor)
union all
select key, 'still pending at the end', least_minor, null, times from booked where not done
