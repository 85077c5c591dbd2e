-- id: ROAM5
-- title: Who may roam is let in, and nobody else
-- applies: roaming_auth
-- needs: select count(*) from operations where kind = 'roaming_auth' and outcome = 'ok' and result is not null
--
-- The agreements are written down here, and the credit limits: postpaid, every fifth up to 900, may owe 10,000.00;
-- nobody else anything. What a subscriber could spend, by the ledger: an answer may be one that was heard earlier,
-- so it is judged only where balance and credit were above 0, or were not, all the time.
with agreed(partner) as (values ('alfa'), ('beta')),
asked as (
  select id, 'sub:' || subscriber || ':main' as account_id, detail->>'partner' as partner, result, invoked_ns,
         if(subscriber <= 900 and subscriber % 5 = 0, 1_000_000, 0) as limit_minor
  from operations where kind = 'roaming_auth' and outcome = 'ok'),
spendable as (
  select account_id, min(balance_after_minor) as least_balance_minor, max(balance_after_minor) as most_balance_minor
  from charging.posting where account_id like 'sub:%:main' group by account_id),
judged as (
  select a.*, s.least_balance_minor + limit_minor as least_minor, s.most_balance_minor + limit_minor as most_minor, case
    when result is null then 'answered ok, without an answer'
    when result = 1 and partner not in (select partner from agreed) then 'let in where no agreement is in force'
    when result = 1 and coalesce(most_minor, 0) <= 0 then 'let in with nothing to spend'
    when result = 0 and partner in (select partner from agreed) and least_minor > 0 then 'denied, though nothing speaks against it' end as problem
  from asked a left join spendable s using (account_id))
select id as subject, problem, account_id, partner, least_minor, most_minor, invoked_ns from judged where problem is not null
