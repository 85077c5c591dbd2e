-- id: detection_time_s
-- title: First fault to a status page that says so
-- unit: s
-- group: customers
--
-- The first answer of the page after that which was not green; null where each was, or nothing was broken. Null, too,
-- where its last answer before the fault was not green: what it says afterwards may be of something else.
with told as (
  select s.at_ns, t.first_injection_ns, json_extract_string(try_cast(s.text as json), '$.overall') as overall
  from samples s, timeline t where s.name = 'status' and s.value = 200)
select if(arg_max(overall, at_ns) filter (at_ns < first_injection_ns) = 'green',
          (min(at_ns) filter (at_ns >= first_injection_ns and overall <> 'green') - min(first_injection_ns)) / 1e9, null) as value
from told
