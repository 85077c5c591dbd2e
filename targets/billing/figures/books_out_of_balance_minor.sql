-- id: books_out_of_balance_minor
-- title: Books out of balance by
-- unit: minor
-- group: books
--
-- The trial balance: all postings of a currency sum to nothing. Currencies do not make up for each other.
with currencies as (
  select abs(sum(p.amount_minor)) as minor
  from charging.posting p left join charging.account a on a.id = p.account_id group by a.currency)
select sum(minor) as value from currencies
