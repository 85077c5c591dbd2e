set role notify;
create table notify.notification (
  id uuid primary key,                      -- derived from event id and recipient
  event_id uuid not null,
  recipient text not null,
  template text not null,
  body text not null,
  urgency int not null default 1,           -- 0 payments, 1 other notices of service, 2 campaigns
  created_at timestamptz not null default clock_timestamp(),
  delivered_at timestamptz,
  attempts int not null default 0,
  refusals int not null default 0,          -- answers of 4xx; after 8 it is parked
  next_attempt_at timestamptz not null default clock_timestamp(),  -- infinity: parked
  unique (event_id, recipient));
create index on notify.notification (urgency, next_attempt_at) where delivered_at is null;
create index on notify.notification (recipient);
-- Mass messages: their notices are stored with the campaign's row, once per recipient.
create table notify.campaign (
  id text primary key,
  event_id uuid not null unique,
  body text not null,
  recipients int not null,
  created_at timestamptz not null default clock_timestamp());
reset role;
