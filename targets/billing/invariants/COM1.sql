-- id: COM1
-- title: The status page tells the truth, and tells it throughout
-- property: liveness
-- needs: select if(max(at_ns) >= (select load_ended_ns from timeline) - 2_000_000_000 and min(at_ns) <= (select load_started_ns from timeline) + 2_000_000_000, count(*), 0) from samples where name = 'status'
--
-- Reachable throughout: never more than 2 s without an answer (but while the page's own service, selfcare, is
-- what is broken; that edge is, is no excuse). Not green within 5 s of each breach: a second from which, for
-- 5 s on end, fewer than 90 % of payments ended ok. (While the way from the clients to the system is cut,
-- nobody inside can know.)
-- Green again within 10 s of recovery. Whoever asked must have done so from the start of load to its end.
with page as (
  select at_ns, coalesce(value = 200, false) as answered, json_extract_string(try_cast(text as json), '$.overall') as overall
  from samples where name = 'status'),
own_trouble as (
  select injected_ns as from_ns, coalesce((select max(end_ns) from windows where name = 'recovery'), healed_ns) as to_ns
  from faults where list_contains(touches, 'selfcare')),
blind as (
  select injected_ns as from_ns, coalesce(healed_ns, injected_ns) as to_ns
  from faults where len(list_filter(touches, lambda link: link like 'client->%')) > 0 or list_contains(touches, 'selfcare')),
answers as (
  select at_ns, lag(at_ns) over (order by at_ns) as before_ns from page where answered),
silences as (
  select a.before_ns as from_ns, a.at_ns as to_ns from answers a
  where a.at_ns - a.before_ns > 2_000_000_000
    and exists (select 1 from page p where not p.answered and p.at_ns > a.before_ns and p.at_ns < a.at_ns)
  union all
  select min(at_ns), coalesce(min(at_ns) filter (answered), max(at_ns)) from page
  having coalesce(min(at_ns) filter (answered), max(at_ns)) - min(at_ns) > 2_000_000_000
  union all
  select max(at_ns) filter (answered), max(at_ns) from page
  having max(at_ns) - max(at_ns) filter (answered) > 2_000_000_000),
seconds as (
  select intended_ns // 1_000_000_000 as second, count(*) as due, count(*) filter (outcome = 'ok') as ok
  from operations where kind in (select kind from functions where function = 'payments')
    and intended_ns >= (select steady_ended_ns from timeline) group by all),
bad as (
  select second, sum((due >= 3 and ok < 0.9 * due)::int) over five as bad_of_five, count(*) over five as of_five
  from seconds window five as (order by second range between current row and 4 following)),
broken as (
  select second, second - row_number() over (order by second) as outage
  from bad where bad_of_five = 5 and of_five = 5
    and not exists (select 1 from blind where (second + 5) * 1_000_000_000 > from_ns and second * 1_000_000_000 < to_ns)),
breaches as (select min(second) * 1_000_000_000 as at_ns from broken group by outage),
recovered as (select end_ns as at_ns from windows where name = 'recovery' and exists (select 1 from windows where name = 'recovered'))
select 'status page' as subject, 'no answer for ' || round((to_ns - from_ns) / 1e9, 1) || ' s' as problem, from_ns as at_ns
from silences s
where not exists (select 1 from own_trouble t where s.to_ns > t.from_ns and s.from_ns < t.to_ns)
union all
select 'status page', 'green all through the 5 s after payments broke down', b.at_ns from breaches b
where exists (select 1 from page where at_ns between b.at_ns and b.at_ns + 5_500_000_000)
  and not exists (select 1 from page where overall <> 'green' and at_ns between b.at_ns and b.at_ns + 5_500_000_000)
union all
select 'status page', 'not green within 10 s of the recovery', r.at_ns from recovered r
where exists (select 1 from page where at_ns >= r.at_ns + 10_000_000_000)
  and not exists (select 1 from page where overall = 'green' and at_ns between r.at_ns and r.at_ns + 10_500_000_000)
