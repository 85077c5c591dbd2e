-- What services show each other for reconciliation, and nothing else: which events a consumer has dealt
-- with (applied, or parked for people to see), what stands in the ledger, what our own subscribers' usage was
-- rated at, and what became of payments of invoices (dunning looks there, too: none for what is being paid).
create view public.consumed as
  select consumer, event_id from charging.inbox union all select consumer, event_id from charging.dead_letter
  union all select consumer, event_id from notify.inbox union all select consumer, event_id from notify.dead_letter
  union all select consumer, event_id from roaming.inbox union all select consumer, event_id from roaming.dead_letter
  union all select consumer, event_id from invoicing.inbox union all select consumer, event_id from invoicing.dead_letter;
create view public.ledger_entry as select kind, reference from charging.transaction;
grant select on public.consumed, public.ledger_entry to edge, payments, charging, mediation, invoicing, notify, roaming;
create view public.rated_usage as
  select record_id, rating, subscriber, charge_minor, rated_at, reversed_at from mediation.cdr_rated where visitor_of is null;
create view public.invoice_payment as
  select id as payment_id, invoice_id, amount_minor, state, finished_at from payments.payment where kind = 'invoice';
create index on payments.payment (invoice_id) where kind = 'invoice';
grant select on public.rated_usage, public.invoice_payment to invoicing;
-- One row per difference ever seen; it is open while `mended_at` is null.
do $$
declare service text;
begin
  foreach service in array array['edge', 'payments', 'charging', 'mediation', 'invoicing', 'notify', 'roaming'] loop
    execute format($f$
      create table %1$I.difference (
        comparison text not null,
        reference text not null,
        problem text not null,
        first_seen_at timestamptz not null default clock_timestamp(),
        last_seen_at timestamptz not null default clock_timestamp(),
        mended_at timestamptz,
        primary key (comparison, reference));
      alter table %1$I.difference owner to %1$I;
    $f$, service);
  end loop;
end $$;
-- What the PSPs say they have taken and given back, as far as it was read.
set role payments;
create table payments.psp_statement (
  psp text not null,
  seq bigint not null,                      -- the PSP's own number
  event text not null check (event in ('capture', 'refund')),
  key text not null,
  amount_minor bigint not null,
  read_at timestamptz not null default clock_timestamp(),
  primary key (psp, seq));
reset role;
