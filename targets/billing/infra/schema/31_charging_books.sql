set role charging;
-- The two ways into the ledger. Each is one statement for its caller, so one round trip, and a transaction of
-- its own where the caller has none. Functions, because what follows a lock must see what was committed while
-- it was waited for: in a function each statement has a snapshot of its own, in one large statement it has not.
--
-- Each keeps its plans: left alone, PostgreSQL would plan anew for every batch, whose lists are shorter than it
-- assumes of a list, and that takes as long as the work. So that the plans are good ones, a table is never
-- merely joined with a list, whose length nobody knows, but also searched by an array of its keys.

-- Posts transfers in the given order, whatever of them was not posted before, and returns how many that were.
-- Their accounts are locked in the order of their names; those never seen are opened.
-- transfers: id, kind, reference, key, epoch. legs: transaction_id, account_id, amount_minor.
create function charging.post(transfers jsonb, legs jsonb) returns int
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  fresh uuid[];
  names text[];
  known int;
begin
  with claimed as (
    insert into transaction (id, kind, reference, key, epoch)
    select id, kind, reference, key, epoch
    from jsonb_to_recordset(transfers) t (id uuid, kind text, reference text, key text, epoch bigint)
    order by kind, reference
    on conflict (kind, reference) do nothing returning id)
  select array_agg(id) into fresh from claimed;
  select array_agg(distinct l.account_id) into names
  from jsonb_to_recordset(legs) l (transaction_id uuid, account_id text) where l.transaction_id = any(fresh);
  if names is null then
    return coalesce(cardinality(fresh), 0);
  end if;
  perform from account where id = any(names) order by id for update;
  get diagnostics known = row_count;
  if known < cardinality(names) then
    insert into account (id, subscriber)
    select name, substring(name from '^sub:([0-9]+):')::bigint from unnest(names) n (name) order by name
    on conflict do nothing;
    perform from account where id = any(names) order by id for update;
  end if;
  with entry as (
    select l.number, l.transaction_id, a.id as account_id, l.amount_minor,
           (a.balance_minor + sum(l.amount_minor) over so_far)::bigint as balance_after_minor,
           a.version + count(*) over so_far as account_version
    from rows from (jsonb_to_recordset(legs) as (transaction_id uuid, account_id text, amount_minor bigint))
         with ordinality l (transaction_id, account_id, amount_minor, number)
    join account a on a.id = l.account_id
    where l.transaction_id = any(fresh) and a.id = any(names)
    window so_far as (partition by a.id order by l.number)),
  posted as (
    insert into posting (transaction_id, account_id, amount_minor, balance_after_minor, account_version)
    select transaction_id, account_id, amount_minor, balance_after_minor, account_version
    from entry order by number)
  update account a set balance_minor = e.balance_after_minor, version = e.account_version
  from (select distinct on (account_id) * from entry order by account_id, number desc) e
  where a.id = e.account_id and a.id = any(names);
  return cardinality(fresh);
end $$;

-- How many batches have been written. Each one counts here, and holds the row until it is committed: so they
-- follow one another, also those of an earlier incarnation whose commit is still under way.
create table charging.batches (
  one boolean primary key default true check (one),
  written bigint not null default 0);
insert into charging.batches default values;

-- Writes what was decided for a batch of requests, if what it was decided from still stands; else it raises
-- LQ409, and nothing is written. It stands when no other batch was written since it was read (only batches
-- write sessions, reservations, buckets and stored replies), when the accounts have the versions that were
-- read (events of payments and usage are posted at any time), and when the gate admits under the epoch that
-- was read; null: not asked. Admission comes before all locks: a change of mode waits for those who hold it.
create function charging.write_batch(batch jsonb) returns void
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
  names text[];
  subscribers bigint[];
  standing int;
  expires timestamptz := clock_timestamp() + make_interval(secs => (batch->>'validity_s')::float8);
begin
  if batch->>'epoch' is not null and public.admit('money') <> (batch->>'epoch')::bigint then
    raise exception using errcode = 'LQ409', message = 'the mode has changed';
  end if;
  update batches set written = written + 1 where written = (batch->>'written')::bigint;
  if not found then
    raise exception using errcode = 'LQ409', message = 'another batch came before';
  end if;
  select array_agg(id) into names from jsonb_to_recordset(batch->'accounts') r (id text);
  perform from jsonb_to_recordset(batch->'accounts') r (id text, version bigint) join account a using (id)
  where a.id = any(names) and a.version = r.version order by a.id for update of a;
  get diagnostics standing = row_count;
  if standing < jsonb_array_length(batch->'accounts') then
    raise exception using errcode = 'LQ409', message = 'an account has moved';
  end if;

  if jsonb_array_length(batch->'transfers') > 0
    and post(batch->'transfers', batch->'legs') < jsonb_array_length(batch->'transfers') then
    raise exception 'what has no stored reply is in the ledger already';
  end if;
  if jsonb_array_length(batch->'sessions') > 0 then
    select array_agg(subscriber) into subscribers from jsonb_to_recordset(batch->'buckets') t (subscriber bigint);
    with s as (
      insert into session (id, subscriber, service, state, last_request, used_units, charged_minor, leaked_units,
                           leaked_minor, expires_at, ended_at)
      select id, subscriber, service, state, last_request, used_units, charged_minor, leaked_units,
             leaked_minor, expires, case when state <> 'open' then clock_timestamp() end
      from jsonb_to_recordset(batch->'sessions') t (
        id text, subscriber bigint, service text, state text, last_request int, used_units bigint,
        charged_minor bigint, leaked_units bigint, leaked_minor bigint)
      on conflict (id) do update set
        state = excluded.state, last_request = excluded.last_request, used_units = excluded.used_units,
        charged_minor = excluded.charged_minor, leaked_units = excluded.leaked_units,
        leaked_minor = excluded.leaked_minor, ended_at = coalesce(session.ended_at, excluded.ended_at),
        expires_at = case when excluded.state = 'open' then excluded.expires_at else session.expires_at end),
    r as (
      insert into reservation (id, session_id, request_number, state, bucket_units, paid_units, held_minor,
                               used_bucket_units, used_paid_units, charged_minor, epoch, expires_at, ended_at)
      select id, session_id, request_number, state, bucket_units, paid_units, held_minor, used_bucket_units,
             used_paid_units, charged_minor, epoch, expires, case when state <> 'open' then clock_timestamp() end
      from jsonb_to_recordset(batch->'reservations') t (
        id uuid, session_id text, request_number int, state text, bucket_units bigint, paid_units bigint,
        held_minor bigint, used_bucket_units bigint, used_paid_units bigint, charged_minor bigint, epoch bigint)
      order by (state = 'open')  -- a session's last one ends before its next one is there
      on conflict (id) do update set
        state = excluded.state, used_bucket_units = excluded.used_bucket_units,
        used_paid_units = excluded.used_paid_units, charged_minor = excluded.charged_minor,
        ended_at = excluded.ended_at)
    update bucket b set used_units = t.used_units, reserved_units = t.reserved_units
    from jsonb_to_recordset(batch->'buckets') t (
      subscriber bigint, service text, used_units bigint, reserved_units bigint)
    where b.subscriber = t.subscriber and b.service = t.service and b.subscriber = any(subscribers);
  end if;
  insert into outbox (event_id, subject, payload)
  select (payload->>'event_id')::uuid, 'quota.threshold', payload
  from jsonb_array_elements(batch->'crossings') c (payload);
  insert into idempotency_key (key, fingerprint, status, body)
  select key, fingerprint, status, body
  from jsonb_to_recordset(batch->'replies') r (key text, fingerprint text, status int, body jsonb);
end $$;
reset role;
