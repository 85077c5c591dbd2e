-- id: AV1
-- title: It recovers by itself, and drains its backlog
-- property: liveness
-- needs: with t as (select first_injection_ns, last_healing_ns, load_ended_ns >= last_healing_ns + (recover_within_s + 3) * 1e9 as watched, settled_ns from timeline, experiment) select case when exists (from pending where count < 0) or (settled_ns is null and not exists (from pending)) then 0 when last_healing_ns is null then (first_injection_ns is null)::int when exists (from recovery where not judged or (recovered_ns is null and not coalesce(watched, false))) or exists (from operations join functions using (kind) where function not in (select function from recovery)) then 0 else (select count(*) from recovery) end from t
--
-- Within recover_within of the last healing every function serves as in steady, for 3 s on end (goodput
-- and p99, see the figures of recovery); nothing is pending in the end. Whatever ended uninvited makes
-- the whole run inconclusive, so nobody can have recovered by a restart.
-- It speaks only of what is decided: each function that had traffic had enough of it in steady to be
-- judged by, and was seen to recover or was watched for all of recover_within and the 3 s of a hold that
-- begins at its very end; what is pending is known.
with facts as (
  select last_healing_ns, load_ended_ns, recover_within_s, (load_ended_ns - last_healing_ns) / 1e9 as watched_s
  from timeline, experiment)
select if(function = '', 'all functions together', function) as subject,
       if(recovered_ns is null, 'not recovered while load lasted', 'recovered too late') as problem,
       (recovered_ns - last_healing_ns) / 1e9 as after_s, recover_within_s as limit_s, watched_s
from recovery, facts
where judged and last_healing_ns is not null
  and (recovered_ns > last_healing_ns + recover_within_s * 1e9
       or (recovered_ns is null and watched_s >= recover_within_s + 3))
union all
select pending.name, 'still pending when its time was over: ' || count, null, settle_within_s, null
from pending, experiment where count > 0
