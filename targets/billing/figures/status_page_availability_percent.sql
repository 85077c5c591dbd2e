-- id: status_page_availability_percent
-- title: Status page could be read
-- unit: percent
-- group: customers
--
-- Of the times that it was asked for while load lasted: answered, whatever it said.
select 100 * count(*) filter (value = 200) / nullif(count(*), 0) as value
from samples, timeline where name = 'status' and at_ns >= load_started_ns and at_ns <= coalesce(load_ended_ns, collected_ns)
