-- id: USE4
-- title: A report of usage tells what is rated, no less and no more
-- applies: usage_report
-- needs: select count(*) from operations where kind = 'usage_report' and outcome = 'ok'
--
-- A record is in a report that was asked for after it had been debited, for the debit follows the rating's commit;
-- it is in none that was answered before it was rated, for that instant is drawn before the commit. One that is
-- rated anew in between counts with one of its ratings.
with debits as (select key, min(created_at_ns) as at_ns from charging.transaction where kind = 'usage' group by key),
ratings as (
  select record_id as key, subscriber, min(charge_minor) as least_minor, max(charge_minor) as most_minor,
         min(rated_at_ns) as rated_ns
  from mediation.cdr_rated where visitor_of is null group by record_id, subscriber),
debited as (
  select subscriber, at_ns, sum(least_minor) over (partition by subscriber order by at_ns) as minor
  from ratings join debits using (key)),
rated as (
  select subscriber, rated_ns, sum(most_minor) over (partition by subscriber order by rated_ns) as minor
  from ratings where rated_ns is not null),
bounds as (
  select o.id, o.subscriber, o.result, coalesce(d.minor, 0) as least_minor, coalesce(r.minor, 0) as most_minor
  from operations o
  asof left join debited d on d.subscriber = o.subscriber and d.at_ns <= o.invoked_ns
  asof left join rated r on r.subscriber = o.subscriber and r.rated_ns <= o.completed_ns
  where o.kind = 'usage_report' and o.outcome = 'ok')
select id as subject, if(result > most_minor, 'more than was rated is told', 'less than was rated is told') as problem,
       subscriber, least_minor, most_minor, result as told_minor
from bounds where result is null or result not between least_minor and most_minor
