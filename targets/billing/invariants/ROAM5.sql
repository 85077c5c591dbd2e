-- id: ROAM5
-- title: Who may roam is let in, and nobody else
-- applies: roaming_auth
-- needs: select count(*) from operations where kind = 'roaming_auth' and outcome = 'ok' and result is not null
--
-- The agreements are written down here. What a subscriber could spend, by the ledger: an answer may be one that
-- was heard earlier, so it is judged only where balance and credit were above 0, or were not, all the time.
with agreed(partner) as (values ('alfa'), ('beta')),
asked as (
  select id, 'sub:' || subscriber || ':main' as account_id, detail->>'partner' as partner, result, invoked_ns
  from operations where kind = 'roaming_auth' and outcome = 'ok'),
spendable as (
  select p.account_id, min(p.balance_after_minor) + coalesce(any_value(a.credit_limit_minor), 0) as least_minor,
         max(p.balance_after_minor) + coalesce(any_value(a.credit_limit_minor), 0) as most_minor
  from charging.posting p left join charging.account a on a.id = p.account_id where p.account_id like 'sub:%:main' group by p.account_id),
judged as (
  select a.*, s.least_minor, s.most_minor, case
    when result is null then 'answered ok, without an answer'
    when result = 1 and partner not in (select partner from agreed) then 'let in where no agreement is in force'
    when result = 1 and coalesce(most_minor, 0) <= 0 then 'let in with nothing to spend'
    when result = 0 and partner in (select partner from agreed) and least_minor > 0 then 'denied, though nothing speaks against it' end as problem
  from asked a left join spendable s using (account_id))
select id as subject, problem, account_id, partner, least_minor, most_minor, invoked_ns from judged where problem is not null
