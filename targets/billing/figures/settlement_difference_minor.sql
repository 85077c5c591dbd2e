-- id: settlement_difference_minor
-- title: Our settlements against the partners' own sums, all currencies alike
-- unit: minor
-- group: settlement
-- applies: settlement
--
-- Receivable and payable by themselves, for each partner, period and currency; what one side does not know counts whole.
-- Amounts in different currencies are added as they are, minor unit by minor unit: the figure is to be 0. The partner's
-- sums are those of the files that it took, and of its own that we confirmed to it.
with ours as (
  select period, partner, currency, direction, sum(total_minor) as minor from roaming.settlement group by all),
theirs as (
  select period, partner, currency, direction, sum(total_minor) as minor
  from (select distinct period, partner, currency, direction, sequence, total_minor from witness.partner
        where (event = 'file_received' and direction = 'out') or (event = 'file_confirmed' and direction = 'in'))
  where period in (select period from roaming.settlement_run) group by all)
select if(not exists (select 1 from roaming.settlement_run), null,
          coalesce(sum(abs(coalesce(o.minor, 0) - coalesce(t.minor, 0))), 0)) as value
from ours o full join theirs t using (period, partner, currency, direction)
