-- A legal run of {n} operations, for benchmarks/judge.py: each section is a table, or a file of the evidence.
-- An operation each millisecond. Of twenty in a row: 6 top-ups and a replay, 5 balance reads, 3 charges, 3 usage
-- records, 2 roaming records. Near the end a maintenance window of a hundredth of the run refuses all writes.

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
  1::bigint as attempts, if(kind <> 'balance' and i >= {maintenance} and i < {reopened}, 'fail', 'ok') as outcome,
  case when outcome = 'fail' then 503 when kind in ('usage', 'roaming') then 202 when kind = 'balance' then 200
       else 201 end::bigint as status,
  null::varchar as error, if(kind like 'topup%' and outcome = 'ok', 'payment-' || first, null) as ref,
  if(ref is not null, amount_minor, null)::bigint as result,
  100 + 10 * (i % 5) as units, if(i % 20 = 18, 'alfa', 'beta') as partner,
  if(kind = 'roaming' and partner = 'beta', 'USD', 'EUR') as currency,
  (units * if(currency = 'USD', 21600, 20000) + 500000) // 1000000 as charge_minor  -- beta's peak hours have not ended
from range({n}) t(i);
create table ok as select *, seq / 1000.0 as s from o where outcome = 'ok';
create table moved as
  select 'opening' as kind, 'sub:' || n as key, 'sub:' || n as reference, n as subscriber, 10000000 as amount_minor,
         'opening:equity' as other, -10.0 as s from range(1, 1001) t(n)
  union all select kind, key, ref, subscriber, amount_minor, 'psp_a:cash', s + 0.02 from ok where kind = 'topup'
  union all select kind, key, key, subscriber, -amount_minor, 'revenue:content', s + 0.002 from ok where kind =
    'charge'
  union all select kind, key, key, subscriber, -charge_minor, 'revenue:usage', s + 0.03
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
  select o.* exclude (units, partner, currency, charge_minor, result, first), coalesce(o.result, reads.result) as result, 0::bigint as queued_ns,
    case when outcome = 'fail' then json_object('retry_after', '5') when kind = 'usage' then json_object('service', 'data', 'units', units, 'started_at', instant_of(seq / 1000.0)::varchar)
      when kind = 'roaming' then json_object('service', 'data', 'units', units, 'partner', partner, 'started_at', instant_of(seq / 1000.0)::varchar)
      when kind = 'balance' then json_object('read', 'primary', 'version', version) end::varchar as detail
  from o left join reads using (seq);
create table visited as
  select *, seq < {settled} as filed,
    1 + (row_number() over (partition by partner, seq < {settled} order by seq) - 1) // 40 as sequence
  from ok where kind = 'roaming';
create table files as
  select row_number() over (order by partner, sequence) as id, partner, 'out' as direction, sequence, 'P1' as period,
    min(currency) as currency, count(*) as event_count, sum(charge_minor)::bigint as total_minor from visited
  where filed group by partner, sequence;
create table owed as
  select partner, min(currency) as currency, sum(event_count)::bigint as event_count, sum(total_minor)::bigint as total
  from files group by partner;
insert into moved
  select 'settlement', 'P1:' || partner || ':out', 'P1:' || partner || ':out', null, 0, '', {settled} / 1000.0 + 3 from owed
  union all select 'netting', 'P1:' || partner, 'P1:' || partner, null, 0, '', {settled} / 1000.0 + 4 from owed;
insert into posting
select 100000000 + row_number() over (), 'P1:' || partner || leg.of, leg.account, leg.minor, leg.after, leg.version,
    instant_of({settled} / 1000.0 + leg.later), 0
from owed, lateral (
    select ':out' as of, 'partner:' || partner || ':receivable' as account, -total as minor, -total as after, 1 as version, 3 as later
    union all select ':out', 'revenue:roaming:' || partner, total, total, 1, 3
    union all select '', 'partner:' || partner || ':receivable', total, 0, 2, 4
    union all select '', 'partner:' || partner || ':net', -total, -total, 1, 4) leg;

--- operations.parquet
from operations

--- sql/payments.payment.parquet
select ref as id, key, 'topup' as kind, subscriber, amount_minor, 'settled' as state, 'psp-a' as psp, if(seq < {reopened}, 1, 3) as epoch, instant_of(s)
    as created_at, instant_of(s + 0.004) as finished_at from ok where kind = 'topup'

--- sql/payments.psp_attempt.parquet
select ref as payment_id, 'psp-a' as psp, 'captured' as state, if(seq < {reopened}, 1, 3) as epoch, instant_of(s) as created_at from ok where kind = 'topup'

--- sql/payments.outbox.parquet
select 'event-' || seq as event_id, 'payment.settled' as subject, json_object('event_id', 'event-' || seq,
    'payment_id', ref, 'key', key, 'subscriber', subscriber, 'amount_minor', amount_minor)::varchar as payload,
    instant_of(s + 0.004) as created_at, 0 as resends from ok where kind = 'topup'

--- sql/charging.transaction.parquet
select key as id, kind, reference, key, instant_of(s) as created_at from moved

--- sql/charging.posting.parquet
select * exclude (s) from posting

--- sql/charging.account.parquet
select account_id as id, if(account_id like '%:beta%', 'USD', 'EUR') as currency, sum(amount_minor)::bigint as balance_minor, max(account_version) as version from posting
    group by all

--- sql/charging.inbox.parquet
select 'event-' || seq as event_id, 'charging' as consumer, instant_of(s + 0.03) as received_at from ok where kind in ('topup', 'usage')
union all select ending || partner, 'charging', instant_of({settled} / 1000.0 + 5) from owed, (values ('settled-'), ('netted-')) e(ending)

--- sql/invoicing.inbox.parquet
select 'event-' || seq as event_id, 'invoicing' as consumer, instant_of(s + 0.03) as received_at from ok where kind in ('topup', 'usage')

--- sql/notify.inbox.parquet
select 'event-' || seq as event_id, 'notify' as consumer, instant_of(s + 0.03) as received_at from ok where kind = 'topup'

--- sql/roaming.inbox.parquet
select 'event-' || seq as event_id, 'roaming' as consumer, instant_of(s + 0.03) as received_at from ok where kind = 'roaming'

--- sql/mediation.cdr_raw.parquet
select key as record_id, subscriber, 'data' as service, units, instant_of(s) as accepted_at from ok where kind in
    ('usage', 'roaming')

--- sql/mediation.cdr_rated.parquet
select key as record_id, subscriber, 'data' as service, units, charge_minor, 1 as rating, currency, instant_of(s) as started_at,
    if(kind = 'roaming', partner, null) as visitor_of, 1 as revision, instant_of(s + 0.004) as rated_at from ok where kind in ('usage', 'roaming')

--- sql/mediation.outbox.parquet
select 'event-' || seq as event_id, if(kind = 'usage', 'cdr.rated', 'cdr.roaming') as subject,
    json_object('record_id', key, 'rating', 1)::varchar as payload, instant_of(s + 0.004) as created_at, 0 as resends from ok where kind in ('usage', 'roaming')

--- sql/roaming.tap_event.parquet
select v.key as record_id, v.partner, 'out' as direction, 'data' as service, units, charge_minor, v.currency, instant_of(s) as started_at, f.period, f.id as
    file_id, instant_of(s + 0.03) as received_at from visited v left join files f on v.filed and (v.partner,
    v.sequence) = (f.partner, f.sequence)

--- sql/roaming.tap_file.parquet
select *, instant_of({settled} / 1000.0 + 2) as transmitted_at from files

--- sql/roaming.settlement_run.parquet
select 'P1' as period, 'done' as state, instant_of({settled} / 1000.0 + 0.01) as started_at

--- sql/roaming.settlement.parquet
select 'P1' as period, partner, 'out' as direction, currency, event_count, total as total_minor from owed

--- sql/roaming.netting.parquet
select 'P1' as period, partner, currency, total as receivable_minor, 0 as payable_minor, 'agreed' as state from owed

--- sql/roaming.outbox.parquet
select 'settled-' || partner as event_id, 'settlement.closed' as subject,
    json_object('period', 'P1', 'partner', partner, 'direction', 'out')::varchar as payload,
    instant_of({settled} / 1000.0 + 3) as created_at, 0 as resends from owed
union all
select 'netted-' || partner, 'settlement.netted', json_object('period', 'P1', 'partner', partner)::varchar,
    instant_of({settled} / 1000.0 + 4), 0 from owed

--- sql/edge.mode.parquet
select 1 as epoch, 'normal' as mode, instant_of(-5) as committed_at union all select 2, 'maintenance',
    instant_of({maintenance} / 1000.0 - 0.002) union all select 3, 'normal', instant_of({reopened} / 1000.0 - 0.002)

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
with lines as (
  select 1 as part, partner, sequence, null as key, 'file_received' as event, event_count, total_minor, null as charge_minor,
         currency, null as units, 0 as s, null as started_at from files
  union all
  select 1, partner, sequence, key, 'tap_event', null, null, charge_minor, currency, null, 0, null from visited where filed
  union all
  select 2, partner, null, null, 'netting_agreed', null, total, null, currency, null, 4, null from owed
  union all
  select 3, partner, null, key, 'nrtrde_record', null, null, null, null, units, s - {settled} / 1000.0 + 0.5, instant_of(s) from visited)
select row_number() over (order by part, partner, sequence, key nulls first) as seq,
    ({start} + ({settled} / 1000.0 + s) * 1000000000)::bigint as at_ns, 'partner' as witness, event,
    if(part = 1, 'out', null) as direction, partner, sequence, if(part = 3, null, 'P1') as period, key as record_id, event_count,
    if(part = 1, total_minor, null) as total_minor, charge_minor, currency, false as resubmitted, units,
    if(part = 3, 'data', null) as service, started_at::varchar as started_at,
    if(part = 2, total_minor, null) as receivable_minor, if(part = 2, 0, null) as payable_minor,
    if(part = 2, total_minor, null) as own_receivable_minor, if(part = 2, 0, null) as own_payable_minor
from lines
