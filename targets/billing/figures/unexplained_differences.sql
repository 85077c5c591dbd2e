-- id: unexplained_differences
-- title: Differences that nobody has explained
-- unit: count
-- group: books
--
-- What reconciliation found between services, ledger, payment providers and partners, and what is still open.
select count(*) filter (mended_at is null) as value
from (select mended_at from edge.difference union all select mended_at from payments.difference
      union all select mended_at from charging.difference union all select mended_at from mediation.difference
      union all select mended_at from invoicing.difference union all select mended_at from notify.difference
      union all select mended_at from roaming.difference)
