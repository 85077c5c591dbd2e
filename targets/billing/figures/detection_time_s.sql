-- id: detection_time_s
-- title: First fault to a status page that says so
-- unit: s
-- group: customers
--
-- The first answer of the page after that which was not green; null where each was, or nothing was broken.
select (min(s.at_ns) - min(t.first_injection_ns)) / 1e9 as value
from samples s, timeline t
where s.name = 'status' and s.value = 200 and s.at_ns >= t.first_injection_ns
  and json_extract_string(try_cast(s.text as json), '$.overall') <> 'green'
