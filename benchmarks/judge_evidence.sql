-- A legal run of {n} operations, for benchmarks/judge.py: each section is a table, or a file of the evidence.
-- An operation each millisecond. Of twenty in a row: 6 top-ups and a replay, 5 balance reads, 3 charges, 3 usage
-- records, 2 roaming records. In the last hundredth of the run a maintenance window refuses all writes.

--- prepare
create macro instant_of(seconds) as make_timestamptz(({start} // 1000 + seconds * 1000000)::bigint);
create table o as
select i::bigint as seq, 'o' || i as id,
  case when i % 20 < 6 then 'topup' when i % 20 = 6 then 'topup_replay' when i % 20 < 12 then 'balance' when i % 20 < 15 then 'charge'
       when i % 20 < 18 then 'usage' else 'roaming' end as kind,
  if(i % 20 = 6, i - 6, i) as first, if(kind = 'balance', null, 'key-' || first) as key,
  1 + (first * 7919) % 1000 as subscriber,
  case when kind like 'topup%' then 100 + first % 7 when kind = 'charge' then 1 + i % 3 end::bigint as amount_minor,
  {start} + i * 1000000 as intended_ns, intended_ns as invoked_ns, intended_ns + 5000000 as completed_ns,
  1::bigint as attempts, if(kind <> 'balance' and i >= {maintenance}, 'fail', 'ok') as outcome,
  case when outcome = 'fail' then 503 when kind in ('usage', 'roaming') then 202 when kind = 'balance' then 200
       else 201 end::bigint as status,
  null::varchar as error, if(kind like 'topup%' and outcome = 'ok', 'payment-' || first, null) as ref,
  if(ref is not null, amount_minor, null)::bigint as result,
  100 + i % 50 as units, if(i % 20 = 18, 'alfa', 'beta') as partner
from range({n}) t(i);
create table ok as select *, seq / 1000.0 as s from o where outcome = 'ok';
create table moved as
  select 'opening' as kind, 'sub:' || n as key, 'sub:' || n as reference, n as subscriber, 10000000 as amount_minor,
         'opening:equity' as other, -10.0 as s from range(1, 1001) t(n)
  union all select kind, key, ref, subscriber, amount_minor, 'psp_a:cash', s + 0.02 from ok where kind = 'topup'
  union all select kind, key, key, subscriber, -amount_minor, 'revenue:content', s + 0.002 from ok where kind =
    'charge'
  union all select kind, key, key, subscriber, -((units * 20000 + 500000) // 1000000), 'revenue:usage', s + 0.03
  from ok where kind = 'usage';
create table legs as
  select key as transaction_id, 'sub:' || subscriber || ':main' as account_id, amount_minor, s from moved
  union all select key, other, -amount_minor, s from moved;
create table posting as
  select row_number() over (order by s, transaction_id) as id, transaction_id, account_id, amount_minor::bigint as
    amount_minor,
    (sum(amount_minor) over account)::bigint as balance_after_minor, row_number() over account as account_version,
    instant_of(s) as created_at, s
  from legs window account as (partition by account_id order by s, transaction_id);
create table reads as
  select r.seq, p.balance_after_minor as result, p.account_version as version
  from ok r asof join posting p on p.account_id = 'sub:' || r.subscriber || ':main' and p.s <= r.s + 0.001
  where r.kind = 'balance';
create table operations as
  select o.* exclude (units, partner, result, first), coalesce(o.result, reads.result) as result, 0::bigint as queued_ns,
    case when outcome = 'fail' then json_object('retry_after', '5') when kind = 'usage' then json_object('service', 'data', 'units', units)
      when kind = 'roaming' then json_object('service', 'data', 'units', units, 'partner', partner)
      when kind = 'balance' then json_object('read', 'primary', 'version', version) end::varchar as detail
  from o left join reads using (seq);
create table visited as
  select *, (units * 20000 + 500000) // 1000000 as charge_minor, seq < {settled} as filed,
    1 + (row_number() over (partition by partner, seq < {settled} order by seq) - 1) // 40 as sequence
  from ok where kind = 'roaming';
create table files as
  select row_number() over (order by partner, sequence) as id, partner, 'out' as direction, sequence, 'P1' as period,
    count(*) as event_count, sum(charge_minor)::bigint as total_minor from visited where filed group by partner,
    sequence;
insert into moved select 'settlement', 'P1:' || partner || ':out', 'P1:' || partner || ':out', null, 0, '',
    {settled} / 1000.0 + 3
from files group by partner;
insert into posting
select 100000000 + row_number() over (), 'P1:' || partner || ':out', account, minor, minor, 1, instant_of({settled}
    / 1000.0 + 3), 0
from (select partner, sum(total_minor)::bigint as total from files group by partner),
  lateral (select 'partner:' || partner || ':receivable' as account, -total as minor
           union all select 'revenue:roaming:' || partner, total);

--- operations.parquet
from operations

--- sql/payments.payment.parquet
select ref as id, key, 'topup' as kind, subscriber, amount_minor, 'settled' as state, 'psp-a' as psp, instant_of(s)
    as created_at, instant_of(s + 0.004) as finished_at from ok where kind = 'topup'

--- sql/payments.psp_attempt.parquet
select ref as payment_id, 'psp-a' as psp, 'captured' as state from ok where kind = 'topup'

--- sql/payments.outbox.parquet
select 'event-' || seq as event_id, 'payment.settled' as subject, json_object('event_id', 'event-' || seq,
    'payment_id', ref, 'key', key, 'subscriber', subscriber, 'amount_minor', amount_minor)::varchar as payload,
    instant_of(s + 0.004) as created_at, 0 as resends from ok where kind = 'topup'

--- sql/charging.transaction.parquet
select key as id, kind, reference, key, instant_of(s) as created_at from moved

--- sql/charging.posting.parquet
select * exclude (s) from posting

--- sql/charging.account.parquet
select account_id as id, sum(amount_minor)::bigint as balance_minor, max(account_version) as version from posting
    group by all

--- sql/charging.inbox.parquet
select 'event-' || seq as event_id, 'charging' as consumer, instant_of(s + 0.03) as received_at from ok where kind in ('topup', 'usage')

--- sql/notify.inbox.parquet
select 'event-' || seq as event_id, 'notify' as consumer, instant_of(s + 0.03) as received_at from ok where kind = 'topup'

--- sql/roaming.inbox.parquet
select 'event-' || seq as event_id, 'roaming' as consumer, instant_of(s + 0.03) as received_at from ok where kind = 'roaming'

--- sql/mediation.cdr_raw.parquet
select key as record_id, subscriber, 'data' as service, units, instant_of(s) as accepted_at from ok where kind in
    ('usage', 'roaming')

--- sql/mediation.cdr_rated.parquet
select key as record_id, subscriber, 'data' as service, units, (units * 20000 + 500000) // 1000000 as charge_minor,
    if(kind = 'roaming', partner, null) as visitor_of from ok where kind in ('usage', 'roaming')

--- sql/mediation.suspense.parquet
select null::varchar as record_id, null::varchar as reason where false

--- sql/mediation.outbox.parquet
select 'event-' || seq as event_id, if(kind = 'usage', 'cdr.rated', 'cdr.roaming') as subject,
    json_object('record_id', key)::varchar as payload, instant_of(s + 0.004) as created_at, 0 as resends from ok where kind in ('usage', 'roaming')

--- sql/roaming.tap_event.parquet
select v.key as record_id, v.partner, 'out' as direction, 'data' as service, units, charge_minor, f.period, f.id as
    file_id, instant_of(s + 0.03) as received_at from visited v left join files f on v.filed and (v.partner,
    v.sequence) = (f.partner, f.sequence)

--- sql/roaming.tap_file.parquet
select *, instant_of({settled} / 1000.0 + 2) as transmitted_at from files

--- sql/roaming.settlement_run.parquet
select 'P1' as period, 'done' as state, instant_of({settled} / 1000.0 + 0.01) as started_at

--- sql/roaming.settlement.parquet
select period, partner, direction, sum(event_count) as event_count, sum(total_minor)::bigint as total_minor from
    files group by all

--- sql/roaming.outbox.parquet
select 'settled-' || partner as event_id, 'settlement.closed' as subject, json_object('period', period, 'partner',
    partner, 'direction', direction)::varchar as payload,
    instant_of({settled} / 1000.0 + 3) as created_at, 0 as resends from files group by all

--- sql/payments.difference.parquet
select null::varchar as comparison, null::varchar as reference, null::varchar as problem, null::timestamptz as first_seen_at,
    null::timestamptz as last_seen_at, null::timestamptz as mended_at where false

--- sql/mediation.difference.parquet
select null::varchar as comparison, null::varchar as reference, null::varchar as problem, null::timestamptz as first_seen_at,
    null::timestamptz as last_seen_at, null::timestamptz as mended_at where false

--- sql/roaming.difference.parquet
select null::varchar as comparison, null::varchar as reference, null::varchar as problem, null::timestamptz as first_seen_at,
    null::timestamptz as last_seen_at, null::timestamptz as mended_at where false

--- sql/edge.mode.parquet
select 1 as epoch, 'normal' as mode, instant_of(-5) as committed_at union all select 2, 'maintenance',
    instant_of({maintenance} / 1000.0 - 0.002)

--- sql/edge.announcement.parquet
select 'maintenance' as kind, instant_of({maintenance} / 1000.0 - 5) as published_at, instant_of({maintenance} /
    1000.0 - 0.002) as starts_at, null::timestamptz as ends_at

--- witness/psp-a.jsonl
select seq, {start} + seq * 1000000 + 2000000 as at_ns, 'psp-a' as witness, 'capture' as event, ref as key, ref as
    payment_id, key as merchant_reference, subscriber, amount_minor from ok where kind = 'topup'

--- witness/gateway.jsonl
select seq, {start} + seq * 1000000 + 9000000 as at_ns, 'gateway' as witness, 'delivered' as event, 'message-' ||
    seq as message_id, 'event-' || seq as event_id, 'sub:' || subscriber as recipient, 'payment-settled' as
    template, printf('Your top-up of %d.%02d has arrived. Payment %s.', amount_minor // 100, amount_minor % 100,
    ref) as body from ok where kind = 'topup'

--- witness/partner.jsonl
select row_number() over (order by partner, sequence, key nulls first) as seq, {start} + {settled}::bigint * 1000000 as
    at_ns, 'partner' as witness, if(key is null, 'file_received', 'tap_event') as event, 'out' as direction,
    partner, sequence, 'P1' as period, key as record_id, event_count, total_minor, charge_minor from (select
    partner, sequence, null as key, event_count, total_minor, null as charge_minor from files union all select
    partner, sequence, key, null, null, charge_minor from visited where filed)
