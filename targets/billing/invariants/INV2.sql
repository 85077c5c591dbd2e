-- id: INV2
-- title: An invoice is paid when its money was taken, and not otherwise
-- applies: invoice_payment
-- needs: select count(*) from witness.psp w join operations o on o.key = w.merchant_reference where w.event = 'capture' and o.kind = 'invoice_payment'
--
-- What is paid on an invoice is what the PSPs have taken for it, by their own logs and net of what they gave
-- back: the client says which invoice each of its payments was for. (Of payments still in doubt PAY3 speaks.)
-- Paid is what has all of its total.
with asked as (select key, min(detail->>'invoice_id') as invoice_id from operations where kind = 'invoice_payment' group by all),
taken as (
  select a.invoice_id, sum(if(w.event = 'capture', w.amount_minor, -w.amount_minor)) as taken_minor
  from witness.psp w join asked a on a.key = w.merchant_reference
  left join payments.payment p on p.id = w.payment_id
  where w.event in ('capture', 'refund') and coalesce(p.state not in ('pending', 'unknown'), true) group by all),
known as (
  select invoice_id, sum(amount_minor) as known_minor from invoicing.payment_in group by all),
compared as (
  select coalesce(v.id, t.invoice_id, k.invoice_id) as id, v.number, v.state, v.total_minor, v.paid_minor,
         coalesce(t.taken_minor, 0) as taken_minor, coalesce(k.known_minor, 0) as known_minor
  from invoicing.invoice v full join taken t on t.invoice_id = v.id full join known k on k.invoice_id = coalesce(v.id, t.invoice_id))
select coalesce('invoice ' || number, id) as subject,
       case when number is null then 'paid, and there is no such invoice'
            when known_minor <> taken_minor then 'the payments it knows are not what the PSPs have taken for it'
            when paid_minor <> taken_minor then 'what is paid on it is not what the PSPs have taken for it'
            when state = 'paid' then 'paid, though not all of it was taken'
            else 'all of it was taken, and it is not paid' end as problem,
       total_minor, taken_minor, paid_minor, known_minor
from compared
where number is null or known_minor <> taken_minor or paid_minor <> taken_minor or (state = 'paid') <> (taken_minor >= total_minor)
