set role mediation;
-- Each accepted record ends in exactly one of cdr_rated and suspense.
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
create table mediation.tariff (
  service text primary key,
  price_micro_per_unit bigint not null);    -- micro-units of the currency's minor unit
insert into mediation.tariff values ('data', 20000), ('voice', 150000), ('sms', 5000000);
create table mediation.cdr_rated (
  record_id text primary key,
  subscriber bigint not null,
  service text not null,
  units bigint not null,
  charge_minor bigint not null,             -- half up, from micro-units
  visitor_of text,
  rated_at timestamptz not null default clock_timestamp());
create index on mediation.cdr_rated (subscriber) where visitor_of is null;
create table mediation.suspense (
  record_id text primary key,
  reason text not null,
  suspended_at timestamptz not null default clock_timestamp());
reset role;
