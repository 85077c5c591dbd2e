-- id: COM2
-- title: Customers are told of each outage, and of its end, once
-- property: liveness
-- needs: select if(max(at_ns) >= (select load_ended_ns from timeline) - 2_000_000_000 and min(at_ns) <= (select load_started_ns from timeline) + 2_000_000_000, count(*), 0) from samples where name = 'status'
--
-- By the gateway's log, against the status page as it was seen from outside. Once the page has been red for
-- 4 s on end, a bulletin is with the gateway within 8 s of the beginning; once it has been free of red for 5 s
-- after that, the restoration follows within 9 s of the end. The clock stands still while the sender, the gateway,
-- or the way between them is broken. One outage and one restoration per event, the latter after the former. And
-- nothing is told of which the page knew nothing in the 10 s before.
with page as (
  select at_ns, coalesce(json_extract_string(try_cast(text as json), '$.overall') = 'red', false) as red
  from samples where name = 'status' and value = 200),
turns as (select *, red <> lag(red, 1, not red) over (order by at_ns) as turn from page),
numbered as (select *, sum(turn::int) over (order by at_ns) as stretch from turns),
stretches as (
  select red, min(at_ns) as from_ns, coalesce(lead(min(at_ns)) over (order by stretch), max(at_ns)) as to_ns, stretch
  from numbered group by red, stretch),
asked as (select min(at_ns) as from_ns, max(at_ns) as to_ns from page),
own_trouble as (
  select injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) + 5_000_000_000 as to_ns
  from faults, timeline
  where len(list_filter(touches, lambda part: regexp_matches(part, '^(selfcare|gateway)$|^selfcare->(gateway|edge)'))) > 0),
told as (
  select event_id, template, at_ns from witness.gateway where event = 'delivered' and recipient = 'broadcast'),
counted as (
  select event_id, count(*) filter (template = 'outage') as outages, count(*) filter (template = 'restoration') as restorations,
         min(at_ns) filter (template = 'outage') as outage_ns, min(at_ns) filter (template = 'restoration') as restoration_ns
  from told group by event_id),
-- An outage lasts over short glimpses of better: it ends with 5 s free of red.
outages as (
  select s.from_ns from stretches s
  where red and to_ns - from_ns >= 4_000_000_000
    and not exists (select 1 from stretches e where e.red and e.to_ns <= s.from_ns and s.from_ns - e.to_ns < 5_000_000_000
                    and e.to_ns - e.from_ns >= 2_000_000_000)),
endings as (
  select n.from_ns from stretches n join stretches r on r.red and r.stretch = n.stretch - 1
  where not n.red and n.to_ns - n.from_ns >= 5_000_000_000 and r.to_ns - r.from_ns >= 4_000_000_000)
select 'status page' as subject, 'red for 4 s, and customers were not told within 8 s' as problem, o.from_ns as at_ns
from outages o, asked
where asked.to_ns >= o.from_ns + 8_000_000_000
  and not exists (select 1 from told where template = 'outage' and at_ns between o.from_ns and o.from_ns + 8_000_000_000)
  and not exists (select 1 from own_trouble t where t.to_ns > o.from_ns and t.from_ns < o.from_ns + 8_000_000_000)
union all
select 'status page', 'free of red for 5 s, and customers were not told within 9 s', e.from_ns
from endings e, asked
where asked.to_ns >= e.from_ns + 9_000_000_000
  and not exists (select 1 from told where template = 'restoration' and at_ns between e.from_ns and e.from_ns + 9_000_000_000)
  and not exists (select 1 from own_trouble t where t.to_ns > e.from_ns and t.from_ns < e.from_ns + 9_000_000_000)
union all
select event_id, case when outages > 1 or restorations > 1 then 'told more than once'
                      when outages = 0 then 'a restoration without its outage'
                      else 'restored before it broke' end, coalesce(restoration_ns, outage_ns)
from counted where outages > 1 or restorations > 1 or outages = 0 or restoration_ns < outage_ns
union all
select event_id, 'an outage was told that the status page did not show', at_ns
from told, asked
where template = 'outage' and at_ns between asked.from_ns + 10_000_000_000 and asked.to_ns
  and not exists (select 1 from page where red and page.at_ns between told.at_ns - 10_000_000_000 and told.at_ns + 1_000_000_000)
