set role charging;
-- Double entry. Subscriber accounts are 'sub:N:main'; positive is what the subscriber has.
create table charging.account (
  id text primary key,
  subscriber bigint,
  balance_minor bigint not null default 0,  -- kept equal to the sum of its postings
  credit_limit_minor bigint not null default 0,
  version bigint not null default 0);
create table charging.transaction (
  id uuid primary key,
  kind text not null,                       -- opening, topup, usage, charge, settlement
  reference text not null,                  -- payment id, CDR record id, idempotency key, ...
  key text not null,                        -- the client's key, where there is one; else the reference
  created_at timestamptz not null default clock_timestamp(),
  unique (kind, reference));
create table charging.posting (
  id bigint generated always as identity primary key,
  transaction_id uuid not null references charging.transaction,
  account_id text not null references charging.account,
  amount_minor bigint not null,             -- the legs of a transaction sum to 0
  balance_after_minor bigint not null,
  account_version bigint not null,          -- 1, 2, 3 ... per account
  created_at timestamptz not null default clock_timestamp(),
  unique (account_id, account_version));
create index on charging.posting (transaction_id);
create table charging.idempotency_key (
  key text primary key,
  fingerprint text not null,
  status int not null,
  body jsonb not null,
  created_at timestamptz not null default clock_timestamp());
-- Written twice a second on the primary; what a replica shows of it tells how fresh its data are.
create table charging.heartbeat (
  one boolean primary key default true check (one),
  at timestamptz not null default clock_timestamp());
insert into charging.heartbeat default values;
insert into charging.account (id) values
  ('psp_a:cash'), ('psp_b:cash'), ('revenue:usage'), ('revenue:content'), ('revenue:roaming'),
  ('cost:roaming'), ('opening:equity'), ('suspense'),
  ('partner:alfa:receivable'), ('partner:alfa:payable'), ('partner:beta:receivable'), ('partner:beta:payable');
-- Opening balances go through the ledger like everything else.
insert into charging.account (id, subscriber) select 'sub:' || n || ':main', n from generate_series(1, 1000) n;
with opening as (
  insert into charging.transaction (id, kind, reference, key)
  select gen_random_uuid(), 'opening', 'sub:' || n, 'sub:' || n from generate_series(1, 1000) n
  returning id, reference)
insert into charging.posting (transaction_id, account_id, amount_minor, balance_after_minor, account_version)
select id, reference || ':main', 100000, 100000, 1 from opening
union all
select id, 'opening:equity', -100000, -100000 * row_number() over (order by reference), row_number() over (order by reference) from opening;
update charging.account a set balance_minor = p.balance, version = p.version
from (select account_id, sum(amount_minor) balance, max(account_version) version from charging.posting group by 1) p
where p.account_id = a.id;
reset role;
