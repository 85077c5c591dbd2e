-- id: INV1
-- title: Each customer is billed once, for exactly what was used
-- applies: billing-run
-- needs: select count(*) from invoicing.item where invoice_id is not null
--
-- Every rating of a postpaid subscriber's record (every fifth of 1 to 900), and every reversal of one, is one item:
-- with the amount that mediation rated, and that the ledger took from or gave back to that subscriber. What came
-- before a run began is on one line of that run's invoice; only who owes nothing in all has none, and waits. A
-- line is the sum of its items, an invoice the sum of its lines; numbers run 1, 2, 3 ...; each subscriber has one
-- invoice a period, and each invoice one event that says the same. A run that was asked for,
-- and said to be begun, is done: one whose calls had no good answer need never have been heard of.
with runs as (select * from invoicing.bill_run, timeline where started_at_ns >= load_started_ns),
ratings as (
  select record_id, rating, 'usage' as kind, subscriber, charge_minor as amount_minor
  from mediation.cdr_rated where visitor_of is null
  union all
  select record_id, rating, 'reversal', subscriber, -charge_minor
  from mediation.cdr_rated where visitor_of is null and reversed_at is not null),
due as (
  select *, record_id || if(kind = 'usage' and rating = 1, '', '#' || rating) as reference,
         if(kind = 'usage', 'usage', 'usage_reversal') as posted_as
  from ratings where subscriber between 1 and 900 and subscriber % 5 = 0),
posted as (
  select t.kind as posted_as, t.reference, -sum(p.amount_minor) as posted_minor, min(p.account_id) as account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('usage', 'usage_reversal') and p.account_id like 'sub:%' group by all),
items as (
  select i.*, v.subscriber as billed_to, l.line as found_line, r.started_at_ns as cut_ns
  from invoicing.item i left join invoicing.invoice v on v.id = i.invoice_id
  left join invoicing.invoice_line l on l.invoice_id = i.invoice_id and l.line = i.line
  left join runs r on r.period = v.period),
compared as (
  select coalesce(d.record_id, i.record_id) || '#' || coalesce(d.rating, i.rating) as subject, d.amount_minor as due_minor,
         i.amount_minor, coalesce(p.posted_minor, 0) as posted_minor, d.subscriber, i.* exclude (record_id, rating, amount_minor, subscriber),
         i.subscriber as item_of, d.record_id is not null as is_due, i.record_id is not null as is_item, p.account
  from due d full join items i using (record_id, rating, kind)
  left join posted p on p.posted_as = d.posted_as and p.reference = d.reference),
left_over as (
  select i.subscriber, r.period, sum(i.amount_minor) as amount_minor, count(*) as items
  from items i join (select * from runs where state = 'done') r on i.received_at_ns < r.started_at_ns
  where i.invoice_id is null group by all),
lines as (
  select l.*, count(i.record_id) as found_items, coalesce(sum(i.amount_minor), 0) as found_minor
  from invoicing.invoice_line l join invoicing.invoice v on v.id = l.invoice_id join runs using (period)
  left join invoicing.item i on i.invoice_id = l.invoice_id and i.line = l.line group by all),
totals as (select invoice_id, sum(amount_minor) as amount_minor from invoicing.invoice_line group by all),
said as (
  select payload->>'invoice_id' as id, count(*) as events, min((payload->>'number')::bigint) as number,
         min((payload->>'total_minor')::bigint) as total_minor, min((payload->>'subscriber')::bigint) as subscriber
  from invoicing.outbox where subject = 'invoice.issued' group by all)
select subject, case when not is_item then 'rated, and never came to be billed'
                     when not is_due then 'billed, and never rated for a customer who is billed'
                     when item_of <> subscriber then 'billed to somebody else'
                     when amount_minor <> due_minor then 'billed with another amount than was rated'
                     else 'the ledger says another amount, or another subscriber' end as problem,
       due_minor as expected_minor, coalesce(amount_minor, 0) as found_minor
from compared
where not is_item or not is_due or item_of <> subscriber or amount_minor <> due_minor
   or posted_minor <> due_minor or account <> 'sub:' || subscriber || ':main'
union all
select subject, case when found_line is null then 'it stands on a line that does not exist'
                     when billed_to <> item_of then 'it stands on somebody else''s invoice'
                     else 'it came after the run began, and is billed in it' end, null, amount_minor
from compared
where invoice_id is not null and (found_line is null or billed_to <> item_of or received_at_ns >= cut_ns)
union all
select 'sub:' || o.subscriber, items || ' items came before the run of ' || o.period || ' began, and are on no invoice', 0, amount_minor
from left_over o
where amount_minor > 0 or exists (select 1 from invoicing.invoice v where v.subscriber = o.subscriber and v.period = o.period)
union all
select 'invoice ' || v.number, 'a line is not the sum of its items', l.found_minor, l.amount_minor
from lines l join invoicing.invoice v on v.id = l.invoice_id where l.found_minor <> l.amount_minor or l.found_items <> l.items
union all
select 'invoice ' || v.number, 'the total is not the sum of the lines', coalesce(t.amount_minor, 0), v.total_minor
from invoicing.invoice v left join totals t on t.invoice_id = v.id where coalesce(t.amount_minor, 0) <> v.total_minor
union all
select 'sub:' || subscriber, 'more than one invoice of ' || period, 1, count(*) from invoicing.invoice group by subscriber, period having count(*) > 1
union all
select 'numbers', 'the numbers have a gap or a repetition', count(*), max(number)
from invoicing.invoice having max(number) <> count(*) or count(distinct number) <> count(*)
union all
select 'invoice ' || coalesce(v.number, s.number), 'it has not exactly one event that says the same', v.total_minor, s.total_minor
from (select v.* from invoicing.invoice v join runs using (period)) v full join said s using (id)
where v.id is null or coalesce(s.events, 0) <> 1 or (v.number, v.total_minor, v.subscriber) <> (s.number, s.total_minor, s.subscriber)
union all
select period, 'the billing run was never finished: ' || state, null, null from runs where state <> 'done'
union all
select period, 'the run says other sums than its invoices', coalesce(sum(v.total_minor), 0)::bigint, r.total_minor
from runs r left join invoicing.invoice v using (period) where r.state = 'done'
group by r.period, r.invoices, r.total_minor
having r.invoices <> count(v.id) or r.total_minor <> coalesce(sum(v.total_minor), 0)
union all
select 'billing-run', 'it was asked for, and never began', null, null
from jobs where job = 'billing-run' and (done or answer like '2%') and not exists (select 1 from runs)
