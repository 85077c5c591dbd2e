set role edge;
-- One row per change; the newest row is the mode in force. Epochs only grow.
create table edge.mode (
  epoch bigint generated always as identity primary key,
  mode text not null check (mode in ('normal', 'maintenance', 'lockdown')),
  reason text not null default '',
  retry_after_s int,
  committed_at timestamptz not null default clock_timestamp());
create table edge.announcement (
  id uuid primary key,
  kind text not null check (kind in ('maintenance', 'outage', 'restoration')),
  message text not null,
  starts_at timestamptz not null,
  ends_at timestamptz,
  published_at timestamptz not null default clock_timestamp());
-- A time in which a function was not to be had, as edge saw it by its traffic; and who met it.
create table edge.outage (
  id uuid primary key,
  component text not null,
  began_at timestamptz not null,
  ended_at timestamptz);
create table edge.outage_affected (
  outage_id uuid not null references edge.outage,
  subscriber bigint not null,
  primary key (outage_id, subscriber));
insert into edge.mode (mode, reason) values ('normal', 'installed');
reset role;
