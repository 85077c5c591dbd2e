-- id: MNT1
-- title: In maintenance, refusals are announced and clean
-- applies: maintenance
-- needs: select count(*) from within where status is not null
--
-- Each window was announced before it opened. A write that was sent (half a second in: the mode must have
-- got about) and answered within it was refused with 503 and a Retry-After that can be read, unless it has
-- an answer of its own (done, declined, over the limit). The last answer counts, whatever became of the
-- attempt before it. A 503 without a Retry-After that left it open is no answer (edge answers so for a session
-- when charging does not answer in time). Where another fault lay in the same time, or the system was still recovering from it
-- (within recover_within of its healing), an operation without an answer is that one's doing.
with changes as (
  select mode, committed_at_ns as from_ns, lead(committed_at_ns) over (order by epoch) as to_ns, epoch from edge.mode),
closed as (
  select epoch, from_ns, coalesce(to_ns, (select load_ended_ns from timeline)) as to_ns
  from changes where mode = 'maintenance'),
other_faults as (
  select injected_ns, least(coalesce(healed_ns, load_ended_ns) + recover_within_s * 1e9,
                            greatest(healed_ns, (select max(end_ns) from windows where name in ('fault', 'recovery')))) as over_ns
  from faults, timeline, experiment where fault <> 'maintenance' and injected_ns is not null),
within as (
  select o.*, coalesce(regexp_full_match(detail->>'retry_after', '[0-9]+')
                       or try_strptime(detail->>'retry_after', '%a, %d %b %Y %H:%M:%S GMT') is not null, false) as says_when
  from operations o join closed c on o.invoked_ns > c.from_ns + 500_000_000 and o.completed_ns < c.to_ns
  where o.kind not in ('balance'))
select 'epoch ' || epoch as subject, 'the window was not announced beforehand' as problem, null as kind, null as status, from_ns as at_ns
from closed where not exists (
  select 1 from edge.announcement a
  where a.kind = 'maintenance' and a.published_at_ns < from_ns and a.starts_at_ns <= from_ns + 1_000_000_000
    and (a.ends_at_ns is null or a.ends_at_ns > from_ns))
union all
select coalesce(key, id), 'refused without a Retry-After that can be read', kind, status, completed_ns
from within where outcome = 'fail' and status = 503 and not says_when
union all
select coalesce(key, id), 'neither done nor cleanly refused', kind, status, completed_ns
from within w where outcome = 'unknown' and not (coalesce(status, 0) = 503 and says_when)
  and not exists (select 1 from other_faults f where w.completed_ns > f.injected_ns and w.invoked_ns < f.over_ns)
union all
select coalesce(key, id), 'refused with another answer than 503', kind, status, completed_ns
from within where outcome = 'fail' and status not in (402, 422, 503)
