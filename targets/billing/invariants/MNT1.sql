-- id: MNT1
-- title: In maintenance, refusals are announced and clean
-- applies: maintenance
-- needs: select count(*) from edge.mode where mode = 'maintenance'
--
-- Each window was announced before it opened. A write that was sent (half a second in: the mode must have got
-- about) and answered within it was
-- refused with 503 and Retry-After (the client counts it as failed only then), unless it has an answer
-- of its own (done, declined, over the limit). Where another fault lay in the same time, an operation
-- without an answer is that one's doing.
with changes as (
  select mode, committed_at_ns as from_ns, lead(committed_at_ns) over (order by epoch) as to_ns, epoch from edge.mode),
closed as (
  select epoch, from_ns, coalesce(to_ns, (select load_ended_ns from timeline)) as to_ns
  from changes where mode = 'maintenance'),
other_faults as (select injected_ns, coalesce(healed_ns, injected_ns) as healed_ns from faults where fault <> 'maintenance'),
within as (
  select o.*, c.from_ns, c.to_ns, try_cast(detail->>'retry_after' as double) as retry_after_s
  from operations o join closed c on o.invoked_ns > c.from_ns + 500_000_000 and o.completed_ns < c.to_ns
  where o.kind not in ('balance'))
select 'epoch ' || epoch as subject, 'the window was not announced beforehand' as problem, null as kind, null as status, from_ns as at_ns
from closed where not exists (
  select 1 from edge.announcement a
  where a.kind = 'maintenance' and a.published_at_ns < from_ns and a.starts_at_ns <= from_ns + 1_000_000_000
    and (a.ends_at_ns is null or a.ends_at_ns > from_ns))
union all
select coalesce(key, id), 'refused without Retry-After', kind, status, completed_ns
from within where status = 503 and (outcome <> 'fail' or (detail->>'retry_after' is not null and not coalesce(retry_after_s >= 0, false)))
union all
select coalesce(key, id), 'neither done nor cleanly refused', kind, status, completed_ns
from within w where outcome = 'unknown' and status is distinct from 503
  and not exists (select 1 from other_faults f where w.completed_ns > f.injected_ns and w.invoked_ns < f.healed_ns)
union all
select coalesce(key, id), 'refused with another answer than 503', kind, status, completed_ns
from within where outcome = 'fail' and status not in (402, 422, 503)
