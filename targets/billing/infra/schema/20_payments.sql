set role payments;
-- One row per payment, through whichever channel. ``key``: the client's idempotency key, or an agent's receipt.
create table payments.payment (
  id uuid primary key,
  key text not null,
  kind text not null default 'topup' check (kind in ('topup', 'invoice', 'voucher', 'agent')),
  subscriber bigint not null,
  invoice_id uuid,                         -- of kind invoice
  amount_minor bigint not null check (amount_minor > 0),
  state text not null check (state in ('pending', 'unknown', 'settled', 'failed')),
  psp text,                                -- the channel that has the money: psp_a, psp_b, voucher, agent
  failure text,
  epoch bigint not null,                   -- of the mode under which it was admitted
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  inquiries int not null default 0,        -- made by the resolver
  next_inquiry_at timestamptz);            -- while it is pending or unknown; null in channels without a PSP
create index on payments.payment (next_inquiry_at) where state in ('pending', 'unknown');
create table payments.idempotency_key (
  key text primary key,
  fingerprint text not null,               -- hash of the payload
  payment_id uuid not null references payments.payment,
  status int,                              -- the stored answer, once there is one
  body jsonb,
  created_at timestamptz not null default clock_timestamp());
-- One row per conversation with a PSP about one payment: stored before it is called.
create table payments.psp_attempt (
  id bigint generated always as identity primary key,
  payment_id uuid not null references payments.payment,
  psp text not null,
  state text not null check (state in ('open', 'captured', 'declined', 'void', 'unknown')),
  epoch bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique (payment_id, psp));
create table payments.voucher (
  code text primary key,
  amount_minor bigint not null,
  redeemed_by uuid references payments.payment,
  redeemed_at timestamptz);
insert into payments.voucher (code, amount_minor)
select 'V-' || lpad(n::text, 5, '0'), (array[500, 1000, 2000])[1 + n % 3] from generate_series(1, 20000) n;
-- What agents took in cash; each receipt is a payment of its own.
create table payments.agent_receipt (
  agent text not null,
  receipt text not null,
  subscriber bigint not null,
  amount_minor bigint not null,
  taken_at timestamptz not null,
  payment_id uuid not null unique references payments.payment,
  received_at timestamptz not null default clock_timestamp(),
  primary key (agent, receipt));
-- A payment is given back once, by the PSP that took it.
create table payments.refund (
  id uuid primary key,
  key text not null unique,                -- the idempotency key of the refund's own request
  payment_id uuid not null unique references payments.payment,
  amount_minor bigint not null,
  psp text not null,
  state text not null check (state in ('pending', 'done')),
  epoch bigint not null,                   -- of the mode under which the PSP was last asked
  tries int not null default 1,
  created_at timestamptz not null default clock_timestamp(),
  next_try_at timestamptz not null,        -- by the worker, while it is pending
  done_at timestamptz);
create index on payments.refund (next_try_at) where state = 'pending';
-- What PSPs said unasked: late, twice, in any order. It moves no money by itself.
create table payments.psp_callback (
  psp text not null,
  callback_id text not null,
  event text not null check (event in ('captured', 'voided', 'refunded')),
  key text not null,
  amount_minor bigint,                     -- null: voided before anything was ordered
  copies int not null default 1,           -- how often it came
  received_at timestamptz not null default clock_timestamp(),
  primary key (psp, callback_id));
reset role;
