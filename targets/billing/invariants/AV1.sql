-- id: AV1
-- title: It recovers by itself, and drains its backlog
-- property: liveness
-- needs: select count(*) from timeline where settled_ns is not null or exists (select 1 from pending)
--
-- Within recover_within of the last healing every function serves as in steady (goodput and p99, see
-- the figures of recovery); nothing is pending in the end. Whatever ended uninvited makes the whole run
-- inconclusive, so nobody can have recovered by a restart.
with facts as (
  select last_healing_ns, load_ended_ns, recover_within_s, (load_ended_ns - last_healing_ns) / 1e9 as watched_s
  from timeline, experiment)
select if(function = '', 'all functions together', function) as subject,
       if(recovered_ns is null, 'not recovered while load lasted', 'recovered too late') as problem,
       (recovered_ns - last_healing_ns) / 1e9 as after_s, recover_within_s as limit_s, watched_s
from recovery, facts
where judged and last_healing_ns is not null
  and (recovered_ns > last_healing_ns + recover_within_s * 1e9
       or (recovered_ns is null and watched_s >= recover_within_s - 1))
union all
select pending.name, 'still pending when its time was over: ' || count, null, settle_within_s, null
from pending, experiment where count > 0
