-- id: ROAM4
-- title: Partners hear of their visitors' usage in near real time, once
-- property: liveness
-- applies: roaming
-- needs: select count(*) from operations where kind = 'roaming' and outcome = 'ok'
--
-- By the partners' log: each visitor's record that we accepted is told to its partner as the client sent it,
-- within 8 s (for the field's 4 h) of the acknowledgement, and once: a report that comes again, under its own
-- id, is a line `nrtrde_duplicate`. The clock stands still while something on the record's way is broken, and
-- until the system has recovered: mediation, broker, roaming, the database, the way to the partner; or while
-- more is asked than was planned. From then on it has 15 s, as an event that was under way may wait
-- 6 s to be redelivered. Records that mediation set aside were never the partner's.
with stood_still as (
  select min(injected_ns) as from_ns,
         max(greatest(coalesce(healed_ns, load_ended_ns), (select max(end_ns) from windows where name = 'recovery'))) as to_ns
  from faults, timeline
  where injected_ns is not null and (fault = 'surge' or len(list_filter(touches, lambda part: regexp_matches(part,
    '^(mediation|broker|roaming|partner|etcd|db-[^>]*)$|^(mediation|roaming)->(broker|db-)|^roaming->partner$|^db-[^>]*->'))) > 0)),
sent as (
  select key, min(detail->>'partner') as partner, min(detail->>'service') as service, min((detail->>'units')::bigint) as units,
         ns(min(try_cast(detail->>'started_at' as timestamptz))) as started_ns,
         min(completed_ns) filter (outcome = 'ok') as accepted_ns, bool_and(outcome = 'fail') as refused
  from operations where kind = 'roaming' group by key),
due as (
  select *, if(accepted_ns < to_ns and accepted_ns + 8_000_000_000 > from_ns, to_ns + 15_000_000_000, accepted_ns + 8_000_000_000) as due_ns
  from sent, stood_still where accepted_ns is not null and key not in (select record_id from mediation.suspense)),
told as (
  select record_id, partner, service, units, ns(try_cast(started_at as timestamptz)) as started_ns, at_ns
  from witness.partner where event = 'nrtrde_record'),
first as (select record_id, min(at_ns) as at_ns, count(*) as times from told group by all)
select d.key as subject, if(f.at_ns is null, 'its partner was never told', 'its partner was told late') as problem, d.partner,
       (f.at_ns - accepted_ns) / 1e9 as after_s, (f.at_ns - due_ns) / 1e9 as late_s, f.times
from due d left join first f on f.record_id = d.key where f.at_ns is null or f.at_ns > due_ns
union all
select record_id, 'its partner was told more than once', null, null, null, times from first where times > 1
union all
select t.record_id, case when s.key is null then 'nobody sent this visitor''s record' when s.refused then 'refused, but told'
                         when t.partner <> s.partner then 'told to another partner' else 'told as something else than was sent' end,
       t.partner, null, null, null
from told t left join sent s on s.key = t.record_id
where s.key is null or s.refused or t.partner <> s.partner or t.service <> s.service or t.units <> s.units
   or t.started_ns is distinct from s.started_ns
