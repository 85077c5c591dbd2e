-- id: churn_risk_subscribers
-- title: Subscribers who may leave
-- unit: count
-- group: customers
-- model: yes
--
-- From how many operations that were not ok, and from how many seconds without one that was, is a setting: guesses, as
-- nobody has asked customers. Without service is somebody from the first operation that was not ok to the end of the last
-- before one that was: who asks but once cannot know more. What never got as far as a request is not counted.
with rule as (
  select max(value) filter (name = 'churn_from_failures') as failures,
         max(value) filter (name = 'churn_from_unserved_s') as unserved_s from prices),
asked as (
  select subscriber, intended_ns, coalesce(completed_ns, load_ended_ns, collected_ns) as ended_ns, outcome = 'ok' as ok,
         count(*) filter (outcome = 'ok') over (partition by subscriber order by intended_ns, seq) as stretch
  from operations, timeline where subscriber is not null and (attempts > 0 or invoked_ns is null)),
stretches as (
  select subscriber, count(*) as failures, (max(ended_ns) - min(intended_ns)) / 1e9 as unserved_s
  from asked where not ok group by subscriber, stretch),
met as (select subscriber, sum(failures) as failures, max(unserved_s) as unserved_s from stretches group by subscriber),
leaving as (select count(*) as subscribers from met, rule where met.failures >= rule.failures or met.unserved_s > rule.unserved_s)
select if(failures is null or unserved_s is null or not exists (select 1 from asked), null, subscribers) as value
from rule, leaving
