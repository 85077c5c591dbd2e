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
bounds as (
  select o.id, o.subscriber, o.result, coalesce(sum(r.least_minor) filter (d.at_ns <= o.invoked_ns), 0) as least_minor,
         coalesce(sum(r.most_minor) filter (r.rated_ns <= o.completed_ns), 0) as most_minor
  from operations o left join ratings r on r.subscriber = o.subscriber left join debits d on d.key = r.key
  where o.kind = 'usage_report' and o.outcome = 'ok' group by o.id, o.subscriber, o.result)
select id as subject, if(result > most_minor, 'more than was rated is told', 'less than was rated is told') as problem,
       subscriber, least_minor, most_minor, result as told_minor
from bounds where result is null or result not between least_minor and most_minor
