-- id: USE1
-- title: Usage is accounted for exactly once
-- applies: usage usage_file roaming
-- needs: select count(*) from operations where kind in ('usage', 'usage_file', 'roaming') and outcome = 'ok'
-- impact: usage_not_accounted
--
-- Each accepted record, alone or in a file, is in exactly one place: a live rating, or open suspense. Files are
-- taken whole or not at all, their copied and malformed lines cost no other line anything. Each rating of a home
-- subscriber's record is one debit, each reversal one credit, and what remains in the ledger is what is rated; a
-- visitor's record is never debited: it becomes one event to bill its partner with. (USE2: at the right price.)
with files as (
  select key as file, min(detail) as detail, bool_or(outcome = 'ok') as accepted, bool_and(outcome = 'fail') as refused,
         min(result) as answered
  from operations where kind = 'usage_file' group by key),
lines as (
  select key, null as file, subscriber, detail->>'partner' as partner, outcome = 'ok' as accepted, outcome = 'fail' as refused
  from operations where kind in ('usage', 'roaming')
  union all
  select r->>'record_id', file, (r->>'subscriber')::bigint, null, accepted, refused
  from (select file, accepted, refused, unnest((detail->'records')::json[]) as r from files)),
sent as (
  select key, min(file) as file, min(subscriber) as subscriber, min(partner) as partner,
         bool_or(accepted) as accepted, bool_and(refused) as refused
  from lines group by key),
ratings as (
  select record_id as key, count(*) as ratings, count(*) filter (reversed_at is null) as live, max(rating) as last,
         max(rating) filter (reversed_at is null) as last_live, sum(charge_minor) filter (reversed_at is null) as live_minor
  from mediation.cdr_rated group by all),
ledger as (
  select t.key, count(distinct t.id) filter (t.kind = 'usage') as debits,
         count(distinct t.id) filter (t.kind = 'usage_reversal') as credits, -sum(p.amount_minor) as debited_minor,
         min(p.account_id) as account, max(p.account_id) as other_account
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('usage', 'usage_reversal') and p.account_id like 'sub:%' group by all),
places as (
  select key, sum(raw)::bigint as raw, sum(suspended)::bigint as suspended, sum(billed)::bigint as billed
  from (select record_id as key, 1 as raw, 0 as suspended, 0 as billed from mediation.cdr_raw
        union all select record_id, 0, (resolved_at is null)::int, 0 from mediation.suspense
        union all select record_id, 0, 0, 1 from roaming.tap_event where direction = 'out'
        union all select key, 0, 0, 0 from ratings
        union all select key, 0, 0, 0 from ledger)
  group by key),
joined as (
  select coalesce(s.key, p.key) as key, s.* exclude (key), s.key is not null as is_sent, coalesce(p.raw, 0) as raw,
         coalesce(p.suspended, 0) as suspended, coalesce(p.billed, 0) as billed, coalesce(r.ratings, 0) as ratings,
         coalesce(r.live, 0) as live, r.last, r.last_live, coalesce(r.live_minor, 0) as live_minor,
         coalesce(l.debits, 0) as debits, coalesce(l.credits, 0) as credits, coalesce(l.debited_minor, 0) as debited_minor,
         l.account, l.other_account
  from sent s full join places p on p.key = s.key
  left join ratings r on r.key = coalesce(s.key, p.key) left join ledger l on l.key = coalesce(s.key, p.key)),
judged as (
  select *, case
    when not is_sent then 'nobody sent this record'
    when refused and (raw > 0 or ratings > 0 or suspended > 0 or debits > 0 or billed > 0) then 'refused, but taken all the same'
    when accepted and raw = 0 then 'accepted, and lost'
    when raw = 0 and live + suspended > 0 then 'rated or suspended, but not among the accepted records'
    when raw > 0 and live + suspended = 0 then 'neither rated nor suspended'
    when live + suspended > 1 then 'counted more than once'
    when ratings <> coalesce(last, 0) or (live > 0 and last_live <> last) then 'its ratings are not 1 to the last, and the last one live'
    when partner is not null and debits + credits > 0 then 'debited, though it is a visitor''s'
    when partner is not null and billed <> live then 'its partner is not billed for it exactly once'
    when partner is null and billed > 0 then 'billed to a partner, though it is not the partner''s to pay'
    when partner is null and debits <> ratings then 'not debited exactly once for each rating'
    when partner is null and credits <> ratings - live then 'not given back exactly once for each reversal'
    when debited_minor <> if(partner is null, live_minor, 0) then 'the ledger holds another amount than is rated'
    when account <> 'sub:' || subscriber || ':main' or other_account <> account then 'debited to somebody else'
  end as problem
  from joined),
taken as (
  select file, count(*) as records, count(*) filter (raw > 0) as kept from judged where file is not null group by file),
kept_lines as (select file, count(*) as malformed from mediation.malformed_line group by file),
files_judged as (
  select f.file, t.kept, m.malformed, case
    when t.kept not in (0, t.records) then 'half of a file was taken'
    when f.answered <> t.records then 'another number of records was told as accepted'
    when t.kept = 0 and (c.name is not null or m.malformed > 0) then 'its name or a line of it was kept, its records were not'
    when t.kept > 0 and coalesce(m.malformed, 0) <> (f.detail->>'malformed')::bigint then 'not each malformed line of it is kept aside'
    when t.kept > 0 and (c.accepted, c.malformed, c.records) is distinct from
         (t.records, (f.detail->>'malformed')::bigint, (f.detail->>'lines')::bigint) then 'its own account of its lines is wrong'
  end as problem
  from files f join taken t using (file) left join kept_lines m using (file) left join mediation.cdr_file c on c.name = f.file)
select key as subject, problem, file, raw, live, suspended, ratings, debits, credits, live_minor, debited_minor
from judged where problem is not null
union all
select file, problem, file, kept, null, malformed, null, null, null, null, null from files_judged where problem is not null
union all
select c.name, 'nobody sent this file', c.name, null, null, c.malformed, null, null, null, null, null
from mediation.cdr_file c anti join files f on f.file = c.name
