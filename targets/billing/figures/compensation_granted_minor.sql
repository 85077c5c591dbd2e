-- id: compensation_granted_minor
-- title: Compensation credited to customers
-- unit: minor
-- group: customers
--
-- By the ledger. Less than what is due: some wait for it still.
select coalesce(sum(p.amount_minor), 0) as value
from charging.transaction t join charging.posting p on p.transaction_id = t.id
where t.kind = 'compensation' and p.account_id like 'sub:%'
