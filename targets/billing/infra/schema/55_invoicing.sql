set role invoicing;
-- Who is billed after use: every fifth subscriber.
create table invoicing.customer (
  subscriber bigint primary key);
insert into invoicing.customer select n from generate_series(5, 900, 5) n;
-- Resumable: one row per period. What came in before `started_at` is billed, customer by customer.
create table invoicing.bill_run (
  period text primary key,
  state text not null check (state in ('collecting', 'billing', 'closing', 'done')),
  started_at timestamptz not null default clock_timestamp(),
  done_to bigint not null default 0,        -- all customers up to this one have been dealt with
  carried int not null default 0,           -- customers who owe nothing: theirs waits for the next period
  invoices int,                             -- how many there are, and of how much; known at the end
  total_minor bigint,
  finished_at timestamptz);
create table invoicing.invoice_number (
  one boolean primary key default true check (one),
  last bigint not null);
create table invoicing.invoice (
  id uuid primary key,
  number bigint not null unique,            -- without a gap
  period text not null references invoicing.bill_run,
  subscriber bigint not null references invoicing.customer,
  total_minor bigint not null check (total_minor > 0),
  paid_minor bigint not null default 0,     -- more than the total: overpaid
  state text not null check (state in ('issued', 'paid')),
  event_id uuid unique,                     -- invoice.issued; none for what was billed before
  issued_at timestamptz not null default clock_timestamp(),
  due_at timestamptz not null,
  notified_at timestamptz,                  -- its notice is known to be delivered
  paid_at timestamptz,
  steps int not null default 0,             -- of dunning
  last_step_at timestamptz,
  unique (period, subscriber));
create index on invoicing.invoice (subscriber);
create index on invoicing.invoice (due_at) where state = 'issued' and steps < 3 and notified_at is not null;
create table invoicing.invoice_line (
  invoice_id uuid not null references invoicing.invoice,
  line int not null,
  service text not null,
  items int not null,
  amount_minor bigint not null,
  primary key (invoice_id, line));
-- What customers are billed for; stands in at most one line.
create table invoicing.item (
  record_id text not null,
  rating int not null,
  kind text not null check (kind in ('usage', 'reversal')),
  subscriber bigint not null references invoicing.customer,
  service text not null,
  units bigint not null,
  amount_minor bigint not null,             -- negative for a reversal
  started_at timestamptz,
  received_at timestamptz not null default clock_timestamp(),
  invoice_id uuid references invoicing.invoice,
  line int,
  primary key (record_id, rating, kind));
create index on invoicing.item (subscriber) where invoice_id is null;
create table invoicing.payment_in (
  payment_id uuid primary key,
  invoice_id uuid not null,                 -- as the payer said: it may name no invoice at all
  subscriber bigint not null,
  amount_minor bigint not null,
  received_at timestamptz not null default clock_timestamp());
create index on invoicing.payment_in (invoice_id);
create table invoicing.dunning_step (
  invoice_id uuid not null references invoicing.invoice,
  step int not null check (step between 1 and 3),
  event_id uuid not null unique,
  open_minor bigint not null,
  epoch bigint not null,
  decided_at timestamptz not null,          -- what was known then, decided
  primary key (invoice_id, step));
-- Outages that have ended and are dealt with here: due dates have moved, compensation is granted or not due.
create table invoicing.outage_heard (
  outage_id uuid primary key,
  component text not null,
  began_at timestamptz not null,
  ended_at timestamptz not null,
  each_minor bigint not null,               -- for each subscriber who met it
  heard_at timestamptz not null default clock_timestamp(),
  compensated_at timestamptz);
create index on invoicing.outage_heard (ended_at) where compensated_at is null;
create table invoicing.grace_credit (
  outage_id uuid not null references invoicing.outage_heard,
  invoice_id uuid not null references invoicing.invoice,
  moved_ms bigint not null,                 -- by so much the due date is later
  primary key (outage_id, invoice_id));
create table invoicing.compensation (
  outage_id uuid not null references invoicing.outage_heard,
  subscriber bigint not null,
  amount_minor bigint not null check (amount_minor > 0),
  epoch bigint not null,
  granted_at timestamptz not null default clock_timestamp(),
  primary key (outage_id, subscriber));
-- The period before: one invoice each, due in years, so that there is always something to pay.
insert into invoicing.bill_run (period, state, invoices, total_minor, finished_at)
values ('P0', 'done', 180, 180000000, clock_timestamp());
insert into invoicing.invoice (id, number, period, subscriber, total_minor, state, due_at)
select md5('P0/' || subscriber)::uuid, row_number() over (order by subscriber), 'P0', subscriber, 1000000, 'issued',
       clock_timestamp() + interval '3 years' from invoicing.customer;
insert into invoicing.invoice_line (invoice_id, line, service, items, amount_minor)
select id, 1, 'brought forward', 0, total_minor from invoicing.invoice;
insert into invoicing.invoice_number (last) select max(number) from invoicing.invoice;
reset role;
