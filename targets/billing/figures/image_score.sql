-- id: image_score
-- title: Image (100 at best)
-- unit: score
-- group: customers
-- model: yes
--
-- 100, less what each percent costs by the settings: of operations after steady that did not end ok, of payment notices
-- that were late or lost, of times that the status page was silent. Not below 0.
with rule as (
  select max(value) filter (name = 'image_per_percent_unserved') as unserved, max(value) filter (name = 'image_per_percent_late_notices') as late,
         max(value) filter (name = 'image_per_percent_silence') as silence, max(value) filter (name = 'notice_late_after_s') as late_after_s
  from prices),
unserved as (
  select 100 * count(*) filter (outcome <> 'ok') / nullif(count(*), 0) as percent
  from operations, timeline where intended_ns >= steady_ended_ns and kind in (select kind from functions)),
notices as (
  select e.event_id, min(g.at_ns) - e.created_at_ns as delay_ns
  from payments.outbox e left join witness.gateway g on g.event_id = e.event_id and g.event = 'delivered'
  where e.subject in ('payment.settled', 'payment.failed') group by e.event_id, e.created_at_ns),
late as (
  select 100 * count(*) filter (coalesce(delay_ns > late_after_s * 1e9, true)) / greatest(count(*), 1) as percent from notices, rule),
silence as (
  select 100 * count(*) filter (value is distinct from 200) / nullif(count(*), 0) as percent
  from samples, timeline where name = 'status' and at_ns >= load_started_ns and at_ns <= coalesce(load_ended_ns, collected_ns)),
score as (
  select 100 - rule.unserved * unserved.percent - rule.late * late.percent - rule.silence * silence.percent as points
  from rule, unserved, late, silence where late_after_s is not null)
select if(any_value(points) is null, null, greatest(0, any_value(points))) as value from score   -- `greatest` passes over null
