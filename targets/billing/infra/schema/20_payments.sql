set role payments;
create table payments.payment (
  id uuid primary key,
  key text not null,                       -- the client's idempotency key
  kind text not null default 'topup',
  subscriber bigint not null,
  amount_minor bigint not null check (amount_minor > 0),
  state text not null check (state in ('pending', 'unknown', 'settled', 'failed')),
  psp text,                                -- who captured it
  failure text,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz);
create index on payments.payment (updated_at) where state in ('pending', 'unknown');
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
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  unique (payment_id, psp));
reset role;
