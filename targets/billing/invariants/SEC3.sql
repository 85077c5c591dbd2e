-- id: SEC3
-- title: Nobody who comes back serves at an older epoch
-- applies: lockdown maintenance
-- needs: select count(*) from payments.payment p where p.created_at_ns > (select max(committed_at_ns) from edge.mode where mode <> 'normal')
--
-- What moves money keeps the epoch of the mode under which it was admitted. Whatever was written after a
-- change was committed has that change's epoch or a later one, whoever wrote it and wherever that one was meanwhile.
-- And the status page, once it has shown an epoch, never shows an older one.
with admitted as (
  select key as subject, 'payment' as what, epoch, created_at_ns from payments.payment
  union all
  select p.key, 'attempt at ' || a.psp, a.epoch, a.created_at_ns from payments.psp_attempt a join payments.payment p on p.id = a.payment_id
  union all
  select key, 'refund', epoch, created_at_ns from payments.refund
  union all
  select key, kind, epoch, created_at_ns from charging.transaction where epoch is not null
  union all
  select session_id, 'reservation', epoch, opened_at_ns from charging.reservation where epoch is not null),
shown as (
  select at_ns, (try_cast(text as json)->>'$.epoch')::bigint as epoch from samples
  where name = 'status' and value = 200 and (try_cast(text as json)->>'$.epoch')::bigint > 0),
falling as (
  select at_ns, epoch, max(epoch) over (order by at_ns rows between unbounded preceding and 1 preceding) as newest from shown)
select subject, what || ' admitted under epoch ' || a.epoch || ' after epoch ' || max(m.epoch) || ' was in force' as problem,
       created_at_ns as at_ns
from admitted a join edge.mode m on m.epoch > a.epoch and a.created_at_ns > m.committed_at_ns
group by subject, what, a.epoch, created_at_ns
union all
select subject, what || ' admitted without an epoch', created_at_ns from admitted where epoch is null
union all
select 'status page', 'epoch ' || epoch || ' shown after epoch ' || newest, at_ns from falling where epoch < newest
