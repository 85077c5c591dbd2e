-- id: REC1
-- title: No difference between two sides is left standing
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment refund usage usage_file roaming session settlement billing-run
-- needs: select (select count(*) from payments.payment where state = 'settled') + (select count(*) from mediation.cdr_rated) + (select count(*) from roaming.settlement)
--
-- What reconciliation found (an event and its consumer, a payment, rated usage or a settlement and the ledger,
-- a payment and its PSP's statement, a file and its partner) is mended in the end. The run waits for that.
with differences as (
  select 'edge' as service, * from edge.difference union all
  select 'payments', * from payments.difference union all
  select 'charging', * from charging.difference union all
  select 'mediation', * from mediation.difference union all
  select 'invoicing', * from invoicing.difference union all
  select 'notify', * from notify.difference union all
  select 'roaming', * from roaming.difference)
select reference as subject, problem, service, comparison, (last_seen_at_ns - first_seen_at_ns) / 1e9 as stood_s
from differences where mended_at is null
