-- One role and one schema per service; nobody writes into another's schema.
-- The auditor reads everything: it is how the final state is collected.
create role auditor login;
grant pg_read_all_data, pg_monitor to auditor;
do $$
declare service text;
begin
  foreach service in array array['edge', 'payments', 'charging', 'mediation', 'invoicing', 'notify', 'roaming'] loop
    execute format('create role %I login', service);
    execute format('create schema %I authorization %I', service, service);
    execute format('alter role %I set search_path = %I', service, service);
    execute format('alter role %I set statement_timeout = ''5s''', service);
    execute format('alter role %I set idle_in_transaction_session_timeout = ''10s''', service);
  end loop;
end $$;

-- What every service that talks to the broker has: an outbox it relays, an inbox that makes its
-- consumers idempotent, and a dead-letter queue.
create function make_messaging(service text) returns void language plpgsql as $$
begin
  execute format($f$
    create table %1$I.outbox (
      id bigint generated always as identity primary key,
      event_id uuid not null unique,
      subject text not null,
      payload jsonb not null,
      created_at timestamptz not null default clock_timestamp(),
      sent_at timestamptz,
      resends int not null default 0,        -- by reconciliation
      reconciled_at timestamptz);            -- all its consumers have it
    create index on %1$I.outbox (id) where sent_at is null;
    create index on %1$I.outbox (id) where reconciled_at is null;
    create table %1$I.inbox (
      event_id uuid not null,
      consumer text not null,
      subject text not null,
      received_at timestamptz not null default clock_timestamp(),
      primary key (consumer, event_id));
    create table %1$I.dead_letter (
      event_id uuid not null,
      consumer text not null,
      subject text not null,
      payload jsonb not null,
      attempts int not null,
      error text not null,
      parked_at timestamptz not null default clock_timestamp(),
      replayed_at timestamptz,
      primary key (consumer, event_id));
    alter table %1$I.outbox owner to %1$I;
    alter table %1$I.inbox owner to %1$I;
    alter table %1$I.dead_letter owner to %1$I;
  $f$, service);
end $$;
select make_messaging(s) from unnest(array['edge', 'payments', 'charging', 'mediation', 'invoicing', 'notify', 'roaming']) s;
