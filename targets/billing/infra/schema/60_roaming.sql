set role roaming;
-- With whom our subscribers may roam. Charging reads it, and so needs neither this service nor the partner.
create table roaming.agreement (
  partner text primary key,
  valid_from timestamptz not null,
  valid_to timestamptz);                    -- null: until somebody ends it
insert into roaming.agreement values
  ('alfa', '2020-01-01 00:00Z', null), ('beta', '2020-01-01 00:00Z', null),
  ('gamma', '2020-01-01 00:00Z', '2025-01-01 00:00Z');
-- One batch of visitors' usage, told to its partner long before it is billed (NRTRDE).
create table roaming.nrtrde_report (
  id uuid primary key,
  partner text not null,
  record_count int not null,
  created_at timestamptz not null default clock_timestamp(),
  confirmed_at timestamptz);
create index on roaming.nrtrde_report (partner) where confirmed_at is null;
-- Direction 'out': we bill the partner for its visitors. 'in': the partner bills us.
create table roaming.tap_event (
  record_id text not null,                  -- as its sender names it: each partner has names of its own
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  service text not null,
  units bigint not null,
  charge_minor bigint not null,             -- of the currency
  currency text not null,
  started_at timestamptz,                   -- of visitors' usage; the partners' files do not say it
  period text,                              -- set when a settlement takes it
  file_id bigint,                           -- null again once its partner has rejected it
  resubmitted int not null default 0,       -- how often that was
  report_id uuid,                           -- 'out': the near-real-time report that it is in
  received_at timestamptz not null default clock_timestamp(),
  primary key (direction, partner, record_id));
create index on roaming.tap_event (partner, direction) where file_id is null;
create index on roaming.tap_event (file_id);
create index on roaming.tap_event (partner, received_at) where direction = 'out' and report_id is null;
create index on roaming.tap_event (report_id) where report_id is not null;
create table roaming.tap_file (
  id bigint generated always as identity primary key,
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  sequence bigint not null,                 -- +1 per partner and direction, kept on retransmission
  period text not null,
  currency text not null,
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
  record_count int not null default 0,      -- events taken out of our file; 0: the file as a whole
  created_at timestamptz not null default clock_timestamp());
-- Resumable: one run row per period; each step is idempotent per item.
create table roaming.settlement_run (
  period text primary key,
  state text not null check (state in ('collecting', 'transmitting', 'posting', 'netting', 'done')),
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz);
create table roaming.settlement (
  period text not null references roaming.settlement_run,
  partner text not null,
  direction text not null check (direction in ('out', 'in')),
  currency text not null,
  event_count int not null,
  total_minor bigint not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (period, partner, direction));
-- What both owe each other, by our books and by the partner's.
create table roaming.netting (
  period text not null references roaming.settlement_run,
  partner text not null,
  currency text not null,
  receivable_minor bigint not null,
  payable_minor bigint not null,
  state text not null check (state in ('open', 'disputed', 'agreed')),
  their_receivable_minor bigint,            -- named as we see it: what the partner finds it owes us
  their_payable_minor bigint,
  disputed_at timestamptz,                  -- first
  agreed_at timestamptz,
  primary key (period, partner, currency));
reset role;
create view public.roaming_agreement as
  select partner from roaming.agreement
  where valid_from <= clock_timestamp() and coalesce(valid_to > clock_timestamp(), true);
grant select on public.roaming_agreement to charging;
