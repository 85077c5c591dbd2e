-- id: uncollected_minor
-- title: Payments wanted, and taken by nobody
-- unit: minor
-- group: payments
-- applies: topup invoice_payment
--
-- Top-ups and payments of invoices, each counted once, at the amount asked for: those of which no payment provider
-- has the money in the end, by the providers' own logs. Declined is not uncollected (amounts ending in 13), nor is
-- what was taken and given back because its customer asked for that.
with wanted as (
  select key, max(amount_minor) as amount_minor from operations
  where kind in ('topup', 'invoice_payment') and amount_minor % 100 <> 13 group by key),
taken as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as kept_minor
  from witness.psp where event in ('capture', 'refund') group by all),
asked_back as (select distinct detail->>'of' as key from operations where kind = 'refund')
select if(count(*) = 0, null,
          coalesce(sum(w.amount_minor) filter (t.key is null or (t.kept_minor <= 0 and b.key is null)), 0)) as value
from wanted w left join taken t on t.key = w.key left join asked_back b on b.key = w.key
