-- id: compensation_due_minor
-- title: Compensation due by the rule
-- unit: minor
-- group: customers
--
-- Each subscriber whom edge saw meet an outage of the least length gets an amount for each minute that it began; both
-- are settings. An outage that has not ended gives nothing yet. (`compensation_minor` is no rule of this operator:
-- all the minutes that subscribers went unserved, at the tariff, however short.)
with rule as (
  select max(value) filter (name = 'compensation_minor_per_begun_minute') as minor_per_minute,
         max(value) filter (name = 'compensation_from_outage_s') as from_s from prices),
met as (
  select u.ended_at_ns - u.began_at_ns as length_ns
  from edge.outage u join edge.outage_affected a on a.outage_id = u.id where u.ended_at_ns is not null),
due as (
  select sum((length_ns + 59_999_999_999) // 60_000_000_000) filter (length_ns >= from_s * 1e9) as minutes from met, rule)
select if(from_s is null, null, coalesce(minutes, 0) * minor_per_minute) as value from rule, due
