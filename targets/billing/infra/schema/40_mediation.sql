set role mediation;
-- Each accepted record is in exactly one place: a live rating, or open suspense.
create table mediation.cdr_raw (
  record_id text primary key,
  subscriber bigint not null,
  service text not null,                    -- data, voice, sms; anything else cannot be rated
  units bigint not null,                    -- kilobytes, seconds, messages
  started_at timestamptz not null,
  visitor_of text,                          -- inbound roamer: the partner whose subscriber this is
  accepted_at timestamptz not null default clock_timestamp(),
  processed_at timestamptz);
create index on mediation.cdr_raw (accepted_at) where processed_at is null;
-- Price lists. One is in force for events that start within its validity, unless a higher revision is. Those of
-- a correction wait here until it is loaded, which is a row in mediation.rerating.
create table mediation.tariff (
  id bigint generated always as identity primary key,
  service text not null,
  partner text,                             -- null: our own subscribers
  currency text not null,
  time_zone text not null,                  -- of the peak hours
  valid_from timestamptz not null,
  valid_to timestamptz not null,            -- exclusive
  peak_from int not null,                   -- minutes of the local day
  peak_to int not null,                     -- exclusive
  price_micro_per_unit bigint not null,     -- micro-units of the currency's minor unit
  peak_price_micro_per_unit bigint not null,
  increment bigint not null check (increment > 0),  -- units are rounded up to whole increments
  revision int not null,
  correction text,                          -- null: a regular price list
  unique nulls not distinct (service, partner, revision, valid_from));
-- Regular lists: one a month from 2024-01 to 2035-12, by local midnight. Prices move by a step, over and again.
insert into mediation.tariff (service, partner, currency, time_zone, valid_from, valid_to, peak_from, peak_to,
  price_micro_per_unit, peak_price_micro_per_unit, increment, revision)
select service, partner, currency, zone, (date '2024-01-01' + month * interval '1 month') at time zone zone,
  (date '2024-01-01' + (month + 1) * interval '1 month') at time zone zone, 480, 1200,
  base + step * (month % cycle), (base + step * (month % cycle)) / 5 * 6, increment, 1
from generate_series(0, 143) months (month), (values
  ('data', null, 'EUR', 'Europe/Berlin', 20000::bigint, 250, 12, 10),
  ('voice', null, 'EUR', 'Europe/Berlin', 150000, 1000, 8, 30),
  ('sms', null, 'EUR', 'Europe/Berlin', 5000000, 50000, 6, 1),
  ('data', 'alfa', 'EUR', 'Europe/Paris', 20000, 400, 8, 1),
  ('voice', 'alfa', 'EUR', 'Europe/Paris', 160000, 2000, 6, 60),
  ('sms', 'alfa', 'EUR', 'Europe/Paris', 5000000, 100000, 4, 1),
  ('data', 'beta', 'USD', 'America/New_York', 18000, 300, 23, 10),
  ('voice', 'beta', 'USD', 'America/New_York', 125000, 1500, 23, 20),
  ('sms', 'beta', 'USD', 'America/New_York', 4000000, 100000, 23, 1))
  list (service, partner, currency, zone, base, step, cycle, increment);
-- Correction C1: voice by the second and cheaper; data half-price from the 11th to the 20th of each month; a
-- price for telex, which had none.
insert into mediation.tariff (service, currency, time_zone, valid_from, valid_to, peak_from, peak_to,
  price_micro_per_unit, peak_price_micro_per_unit, increment, revision, correction)
select service, 'EUR', 'Europe/Berlin',
  (date '2024-01-01' + month * interval '1 month' + first * interval '1 day') at time zone 'Europe/Berlin',
  (date '2024-01-01' + (month + length) * interval '1 month' + last * interval '1 day') at time zone 'Europe/Berlin', 480, peak_to,
  base + step * (month % cycle), (base + step * (month % cycle)) / 5 * 6, increment, 2, 'C1'
from generate_series(0, 143) months (month), (values
  ('voice', 0, 1, 0, 1080, 140000::bigint, 1000, 8, 1),
  ('data', 10, 0, 20, 1200, 10000, 125, 12, 10),
  ('telex', 0, 1, 0, 1200, 700000, 0, 1, 5))
  list (service, first, length, last, peak_to, base, step, cycle, increment);
create table mediation.offer (
  code text primary key,
  service text not null,
  title text not null,
  units bigint not null,
  price_minor bigint not null);             -- EUR
insert into mediation.offer values
  ('data-1g', 'data', 'One gigabyte', 1000000, 1500),
  ('talk-100', 'voice', 'One hundred minutes', 6000, 700),
  ('sms-50', 'sms', 'Fifty messages', 50, 200);
-- A record is rated anew only after its rating before was reversed: at most one is live.
create table mediation.cdr_rated (
  record_id text not null,
  rating int not null default 1,            -- 1, 2 ...
  subscriber bigint not null,
  service text not null,
  units bigint not null,
  started_at timestamptz not null,
  charge_minor bigint not null,             -- half up, from micro-units
  currency text not null,
  tariff_id bigint not null,
  revision int not null,                    -- of that tariff
  visitor_of text,
  rated_at timestamptz not null default clock_timestamp(),
  reversed_at timestamptz,
  primary key (record_id, rating));
create unique index on mediation.cdr_rated (record_id) where reversed_at is null;
create index on mediation.cdr_rated (subscriber, started_at) where visitor_of is null and reversed_at is null;
create table mediation.suspense (
  record_id text primary key,
  reason text not null,
  suspended_at timestamptz not null default clock_timestamp(),
  retried_by text,                          -- the last correction under which it was tried again
  resolved_at timestamptz);                 -- rated after all
create index on mediation.suspense (record_id) where resolved_at is null;
-- A correction that is loaded, and how far its run has come. Resumable: what is left to do is found in the
-- ratings themselves.
create table mediation.rerating (
  id text primary key,
  state text not null check (state in ('correcting', 'retrying', 'done')),
  corrected int not null default 0,         -- ratings reversed and made anew
  resolved int not null default 0,          -- suspended records that have a price now
  loaded_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz);
-- Files of records: a name stands for one content.
create table mediation.cdr_file (
  name text primary key,
  content_hash text not null,
  records int not null,                     -- lines
  accepted int not null,
  duplicates int not null,
  malformed int not null,
  received_at timestamptz not null default clock_timestamp());
create table mediation.malformed_line (
  file text not null references mediation.cdr_file,
  line int not null,                        -- from 1
  reason text not null,
  content text not null,
  primary key (file, line));
reset role;
