set role roaming;
-- Direction 'out': we bill the partner for its visitors. 'in': the partner bills us.
create table roaming.tap_event (
  record_id text primary key,
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  service text not null,
  units bigint not null,
  charge_minor bigint not null,
  period text,                              -- set when a settlement takes it
  file_id bigint,
  received_at timestamptz not null default clock_timestamp());
create index on roaming.tap_event (partner, direction) where file_id is null;
create table roaming.tap_file (
  id bigint generated always as identity primary key,
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  sequence bigint not null,                 -- +1 per partner and direction, kept on retransmission
  period text not null,
  event_count int not null,
  total_minor bigint not null,
  content_hash text not null,
  created_at timestamptz not null default clock_timestamp(),
  transmitted_at timestamptz,               -- out: the partner has confirmed it; in: when it came
  unique (partner, direction, sequence));
create table roaming.rap (
  id bigint generated always as identity primary key,
  partner text not null,
  sequence bigint not null,
  reason text not null,
  created_at timestamptz not null default clock_timestamp());
-- Resumable: one run row per period; each step is idempotent per item.
create table roaming.settlement_run (
  period text primary key,
  state text not null check (state in ('collecting', 'transmitting', 'posting', 'done')),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz);
create table roaming.settlement (
  period text not null references roaming.settlement_run,
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  event_count int not null,
  total_minor bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (period, partner, direction));
reset role;
