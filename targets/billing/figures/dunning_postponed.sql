-- id: dunning_postponed
-- title: Invoices due later because of an outage
-- unit: count
-- group: customers
-- applies: billing-run
--
-- Those that would have been due while load lasted, and whose date was moved: no reminder comes before that. What is due
-- long after loses nothing by it.
with moved as (select invoice_id, sum(moved_ms) * 1_000_000 as moved_ns from invoicing.grace_credit group by all)
select count(*) as value
from moved join invoicing.invoice i on i.id = moved.invoice_id, timeline
where i.due_at_ns - moved_ns <= coalesce(load_ended_ns, collected_ns)
