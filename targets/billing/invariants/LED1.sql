-- id: LED1
-- title: The ledger conserves money
-- applies: topup invoice_payment voucher agent_payment refund charge spree usage usage_file session settlement
-- needs: select count(*) from charging.transaction where kind <> 'opening'
--
-- Each transaction has legs, of one currency, which sum to 0; all postings of a currency sum to 0; a stored balance
-- is the sum of its postings; versions run 1, 2, 3 ... without a gap, and each posting's balance follows from the last.
with currencies as (
  select p.transaction_id, p.amount_minor, a.currency
  from charging.posting p left join charging.account a on a.id = p.account_id),
legs as (
  select transaction_id, sum(amount_minor) as sum_minor, count(*) as legs from charging.posting group by all),
sums as (select account_id, sum(amount_minor) as sum_minor, max(account_version) as version, count(*) as postings
         from charging.posting group by all),
chain as (
  select account_id, account_version, balance_after_minor, amount_minor,
         row_number() over account as place, sum(amount_minor) over account as running_minor
  from charging.posting window account as (partition by account_id order by account_version))
select coalesce(t.reference, l.transaction_id) as subject, 'the legs of a transaction do not sum to 0' as problem,
       coalesce(l.sum_minor, 0) as found_minor, 0 as expected_minor
from charging.transaction t full join legs l on l.transaction_id = t.id
where l.sum_minor <> 0 or l.legs is null or l.legs < 2 or t.id is null
union all
select coalesce(currency, 'no currency'), 'all postings of a currency do not sum to 0', sum(amount_minor), 0
from currencies group by currency having sum(amount_minor) <> 0
union all
select coalesce(t.reference, c.transaction_id), 'a transaction of several currencies', count(distinct c.currency), 1
from currencies c left join charging.transaction t on t.id = c.transaction_id
group by all having count(distinct c.currency) > 1
union all
select a.id, 'the stored balance is not the sum of the postings', a.balance_minor, coalesce(s.sum_minor, 0)
from charging.account a left join sums s on s.account_id = a.id where a.balance_minor <> coalesce(s.sum_minor, 0)
union all
select s.account_id, 'postings to an account that does not exist', s.sum_minor, null
from sums s anti join charging.account a on a.id = s.account_id
union all
select account_id, 'versions have a gap or a repetition', postings, version from sums where version <> postings
union all
select account_id, 'a balance does not follow from the one before', balance_after_minor, running_minor
from (select *, row_number() over (partition by account_id order by account_version) as nth from chain
      where balance_after_minor <> running_minor or account_version <> place)
where nth = 1
