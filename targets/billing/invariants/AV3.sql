-- id: AV3
-- title: What does not need the broken part goes on
-- applies: crash pause restart rolling_restart partition latency reset cpu memory bad_config
-- when: select count(*) > 0 from judged
-- needs: select coalesce(sum(due), 0)::bigint from (select count(*) as due from judged group by function) where due >= 20
--
-- Of the operations of a function that were due while only parts were broken that it does not need, at least
-- 95 % were served: ended ok, or charging said that there is not enough money (402). Any other no that nobody was to
-- get (a 404, a 409) is no service. What each function needs is written down here; besides, all need edge, the
-- database and the ways to them. Its own trouble begins 5 s before a fault of what it needs (an operation may take
-- that long) and lasts until the system has recovered. 20 operations at least: fewer say nothing. Where each function
-- with traffic needs what is broken, nobody is to be kept whole: then it does not apply.
with dependency(function, part) as (values
  ('payments', '^(payments|psp-.)$|^edge->payments$|^payments->(db-|psp-)'),
  ('invoices', '^(payments|invoicing|psp-.)$|^edge->(payments|invoicing)$|^payments->(db-|psp-)|^invoicing->db-'),
  ('refunds', '^(payments|psp-.)$|^edge->payments$|^payments->(db-|psp-)'),
  ('vouchers', '^payments$|^edge->payments$|^payments->db-'),
  ('agents', '^payments$|^edge->payments$|^payments->db-'),
  ('balance', '^charging$|^edge->charging$|^charging->db-'),
  ('charging', '^charging$|^edge->charging$|^charging->db-'),
  ('sessions', '^charging$|^edge->charging$|^charging->db-'),
  ('roaming_access', '^charging$|^edge->charging$|^charging->db-'),
  ('usage', '^mediation$|^edge->mediation$|^mediation->db-'),
  ('reports', '^mediation$|^edge->mediation$|^mediation->db-'),
  ('roaming', '^mediation$|^edge->mediation$|^mediation->db-')),
spans as (
  select d.function, fault in ('surge', 'maintenance', 'lockdown', 'switchover')
           or len(list_filter(touches, lambda name: regexp_matches(name,
                d.part || '|^(edge|etcd|db-[^>]*)$|^client->|^edge->db-|^db-[^>]*->'))) > 0 as own,
         injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) as healed_ns, touches,
         greatest(coalesce(healed_ns, load_ended_ns), (select max(end_ns) from windows where name = 'recovery')) as over_ns
  from dependency d, faults, timeline where injected_ns is not null),
judged as (
  select f.function, o.outcome = 'ok' or (o.outcome = 'fail' and coalesce(o.status = 402, false)
           and f.function in ('charging', 'sessions', 'roaming_access')) as served
  from operations o join functions f using (kind)
  where o.invoked_ns is not null
    and exists (select 1 from spans s where s.function = f.function and not s.own
                and o.intended_ns >= s.from_ns and o.intended_ns < s.healed_ns)
    and not exists (select 1 from spans s where s.function = f.function and s.own
                    and o.intended_ns >= s.from_ns - 5e9 and o.intended_ns < s.over_ns))
select function as subject, 'it was not kept whole, though nothing was broken that it needs' as problem, count(*) as due,
       count(*) filter (served) as served, round(100.0 * count(*) filter (served) / count(*), 1) as percent,
       (select string_agg(distinct array_to_string(touches, ' '), ', ') from spans s where s.function = judged.function and not own) as broken
from judged group by function having count(*) >= 20 and count(*) filter (served) < 0.95 * count(*)
