-- id: AV2
-- title: Retries do not multiply the load on a provider
-- applies: topup invoice_payment
-- needs: select if(count(distinct merchant_reference) >= 100, count(*), 0) from witness.psp where merchant_reference is not null and event in ('capture', 'decline', 'replay', 'refused')
--
-- By the PSPs' own logs: tries to charge per distinct order, of the orders that first came in one span of
-- 10 s: at most 1.2 (the budget for retries is 0.15 of the calls) and 10 more, for the stock that lets a quiet
-- caller, or one that has just started, retry. A try that never arrived burdens nobody.
-- A run with fewer than 100 orders tells nothing about a ratio.
with tries as (
  select witness, merchant_reference, count(*) as tries, min(at_ns) as first_ns
  from witness.psp where merchant_reference is not null and event in ('capture', 'decline', 'replay', 'refused') group by all),
spans as (
  select witness, (first_ns - load_started_ns) // 10_000_000_000 as span, count(*) as orders, sum(tries) as tries
  from tries, timeline group by all)
select witness as subject, 'charges were tried too often from ' || 10 * span || ' s to ' || 10 * (span + 1) || ' s' as problem,
       tries, orders, round(tries / orders, 2) as tries_per_order, 1.2 * orders + 10 as limit_tries
from spans where tries > 1.2 * orders + 10
