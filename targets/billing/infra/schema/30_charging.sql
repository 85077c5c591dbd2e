set role charging;
-- Double entry. Subscribers have 'sub:N:main' and 'sub:N:reserved' (held for a session); positive is what
-- the subscriber has. All legs of a transaction are of one currency.
create table charging.account (
  id text primary key,
  subscriber bigint,
  currency text not null default 'EUR',
  balance_minor bigint not null default 0,  -- kept equal to the sum of its postings
  credit_limit_minor bigint not null default 0,
  version bigint not null default 0);
create table charging.transaction (
  id uuid primary key,
  kind text not null,                       -- opening, topup, usage, charge, reserve, session, release, ...
  reference text not null,                  -- payment id, CDR record id, idempotency key, ...
  key text not null,                        -- the client's key, where there is one; else the reference
  epoch bigint,                             -- of the mode that admitted it; null: not asked
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
-- What a unit beyond the bucket costs, in micro-units of the minor unit.
create table charging.price (
  service text primary key,
  price_micro_per_unit bigint not null);
insert into charging.price values ('data', 20000), ('voice', 150000);
-- Units that the subscription includes: kilobytes, seconds. Used never falls; reserved is held by open sessions.
create table charging.bucket (
  subscriber bigint not null,
  service text not null references charging.price,
  quota_units bigint not null,
  used_units bigint not null default 0,
  reserved_units bigint not null default 0,
  primary key (subscriber, service),
  check (reserved_units >= 0 and used_units + reserved_units <= quota_units));
-- A credit control session, as the access network reports it. Used is what was reported: from the bucket,
-- charged, or leaked (reported when neither bucket nor balance had anything left).
create table charging.session (
  id text primary key,                      -- the client's
  subscriber bigint not null,
  service text not null,
  state text not null check (state in ('open', 'closed', 'expired')),
  last_request int not null,
  used_units bigint not null,
  charged_minor bigint not null,
  leaked_units bigint not null,
  leaked_minor bigint not null,
  opened_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,          -- each request puts it off
  ended_at timestamptz);
create index on charging.session (expires_at) where state = 'open';
-- Granted units: some of the bucket's, some for money that is held. It ends once: posted (used, in part at least),
-- released (unused), or expired. What comes too late or beyond the grant is one that is opened and posted at once.
create table charging.reservation (
  id uuid primary key,
  session_id text not null references charging.session,
  request_number int not null,
  state text not null check (state in ('open', 'posted', 'released', 'expired')),
  bucket_units bigint not null,
  paid_units bigint not null,
  held_minor bigint not null,               -- price of the paid units, rounded up
  used_bucket_units bigint not null,
  used_paid_units bigint not null,
  charged_minor bigint not null,            -- price of the used paid units, half up
  epoch bigint,                             -- of the mode that admitted it; null: not asked
  opened_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  check (used_bucket_units <= bucket_units and used_paid_units <= paid_units and charged_minor <= held_minor));
create unique index on charging.reservation (session_id) where state = 'open';
insert into charging.account (id, currency) values
  ('psp_a:cash', 'EUR'), ('psp_b:cash', 'EUR'), ('voucher:liability', 'EUR'), ('agent:cash', 'EUR'),
  ('revenue:usage', 'EUR'), ('revenue:content', 'EUR'), ('revenue:sessions', 'EUR'), ('cost:compensation', 'EUR'),
  ('revenue:roaming', 'EUR'), ('cost:roaming', 'EUR'), ('revenue:roaming:usd', 'USD'), ('cost:roaming:usd', 'USD'),
  ('opening:equity', 'EUR'), ('suspense', 'EUR'),
  ('partner:alfa:receivable', 'EUR'), ('partner:alfa:payable', 'EUR'), ('partner:alfa:net', 'EUR'),
  ('partner:beta:receivable', 'USD'), ('partner:beta:payable', 'USD'), ('partner:beta:net', 'USD');
-- 1 to 900: every fifth is postpaid. 901 to 1000 have little, and no credit.
insert into charging.account (id, subscriber, credit_limit_minor)
select 'sub:' || n || ':' || part, n, case when part = 'main' and n <= 900 and n % 5 = 0 then 1000000 else 0 end
from generate_series(1, 1000) n, unnest(array['main', 'reserved']) part;
insert into charging.bucket (subscriber, service, quota_units)
select n, service, quota from generate_series(1, 1000) n, (values ('data', 20000), ('voice', 600)) b (service, quota);
-- Opening balances go through the ledger like everything else.
with opening as (
  insert into charging.transaction (id, kind, reference, key)
  select gen_random_uuid(), 'opening', 'sub:' || n, 'sub:' || n from generate_series(1, 1000) n
  returning id, reference),
given as (
  select id, reference, case when substring(reference from 5)::int <= 900 then 100000 else 500 end as amount from opening)
insert into charging.posting (transaction_id, account_id, amount_minor, balance_after_minor, account_version)
select id, reference || ':main', amount, amount, 1 from given
union all
select id, 'opening:equity', -amount, -sum(amount) over (order by reference), row_number() over (order by reference) from given;
update charging.account a set balance_minor = p.balance, version = p.version
from (select account_id, sum(amount_minor) balance, max(account_version) version from charging.posting group by 1) p
where p.account_id = a.id;
reset role;
