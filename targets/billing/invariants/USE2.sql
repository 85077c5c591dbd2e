-- id: USE2
-- title: Usage is rated right, at the prices of its own time
-- applies: usage usage_file roaming
-- needs: select count(*) from operations where kind in ('usage', 'usage_file', 'roaming') and outcome = 'ok'
-- impact: records_rated_wrong
--
-- The price lists are written down here by what they are made of, and read from nowhere: one a month from 2024
-- to 2035, by local midnight; prices begin at a base and go up by a step each month, over again after a cycle;
-- a fifth more from 8 o'clock to the end of the peak, by the local clock. Units in whole increments, half up.
-- Correction C1 (revision 2, of the job rerating) is valid on some days of each month. Once that job is done, all
-- that it concerns is at its prices: what was rated before is reversed, then rated anew, and nothing else is.
with lists(revision, service, partner, currency, zone, base, step, cycle, increment, first_day, last_day, peak_end) as (values
  (1, 'data', 'home', 'EUR', 'Europe/Berlin', 20_000, 250, 12, 10, 1, 31, 20),
  (1, 'voice', 'home', 'EUR', 'Europe/Berlin', 150_000, 1_000, 8, 30, 1, 31, 20),
  (1, 'sms', 'home', 'EUR', 'Europe/Berlin', 5_000_000, 50_000, 6, 1, 1, 31, 20),
  (1, 'data', 'alfa', 'EUR', 'Europe/Paris', 20_000, 400, 8, 1, 1, 31, 20),
  (1, 'voice', 'alfa', 'EUR', 'Europe/Paris', 160_000, 2_000, 6, 60, 1, 31, 20),
  (1, 'sms', 'alfa', 'EUR', 'Europe/Paris', 5_000_000, 100_000, 4, 1, 1, 31, 20),
  (1, 'data', 'beta', 'USD', 'America/New_York', 18_000, 300, 23, 10, 1, 31, 20),
  (1, 'voice', 'beta', 'USD', 'America/New_York', 125_000, 1_500, 23, 20, 1, 31, 20),
  (1, 'sms', 'beta', 'USD', 'America/New_York', 4_000_000, 100_000, 23, 1, 1, 31, 20),
  (2, 'voice', 'home', 'EUR', 'Europe/Berlin', 140_000, 1_000, 8, 1, 1, 31, 18),
  (2, 'data', 'home', 'EUR', 'Europe/Berlin', 10_000, 125, 12, 10, 11, 20, 20),
  (2, 'telex', 'home', 'EUR', 'Europe/Berlin', 700_000, 0, 1, 5, 1, 31, 20)),
lines as (
  select key, subscriber, detail, outcome, invoked_ns from operations where kind in ('usage', 'roaming')
  union all
  select r->>'record_id', (r->>'subscriber')::bigint, r, outcome, invoked_ns
  from (select outcome, invoked_ns, unnest((detail->'records')::json[]) as r from operations where kind = 'usage_file')),
uses as (
  select key, min(subscriber) as subscriber, min(detail->>'service') as service, min((detail->>'units')::bigint) as units,
         min((detail->>'started_at')::timestamptz) as started_at, min(detail->>'partner') as partner, max(invoked_ns) as invoked_ns
  from lines where outcome <> 'fail' group by key),
quotes as (
  select u.key, l.revision, l.currency, timezone(l.zone, u.started_at) as here,
         (year(here) - 2024) * 12 + month(here) - 1 as list, l.base + l.step * (list % l.cycle) as micro,
         (u.units::hugeint + l.increment - 1) // l.increment * l.increment as charged_units,
         (charged_units * if(hour(here) >= 8 and hour(here) < l.peak_end, micro // 5 * 6, micro) + 500_000) // 1_000_000 as minor
  from uses u join lists l on l.service = u.service and l.partner = coalesce(u.partner, 'home')
  where list between 0 and 143 and day(here) between l.first_day and l.last_day
    and ns(u.started_at) <= u.invoked_ns + 86_400_000_000_000),   -- no more than a day ahead
prices as (
  select key, min(currency) as currency, bool_or(revision = 2) as is_corrected,
         max(minor) filter (revision = 1 and minor <= 1_000_000_000_000) as before_minor,
         if(is_corrected, max(minor) filter (revision = 2 and minor <= 1_000_000_000_000), before_minor) as after_minor
  from quotes group by key),
-- The job may have loaded the correction; it is done, so all that it concerns must be corrected.
job as (select coalesce(bool_or(attempts > 0), false) as may, coalesce(bool_or(done), false) as must from jobs where job = 'rerating'),
oracle as (
  select u.*, coalesce(p.currency, '') as currency, coalesce(p.is_corrected, false) and j.may as is_corrected, j.must,
         p.before_minor, if(j.may, p.after_minor, p.before_minor) as after_minor
  from uses u left join prices p using (key) cross join job j),
debited as (
  select t.key, -sum(p.amount_minor) as debited_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('usage', 'usage_reversal') and p.account_id like 'sub:%' group by t.key),
given_back as (
  select t.reference, sum(p.amount_minor) as amount_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind = 'usage_reversal' and p.account_id like 'sub:%' group by t.reference),
told as (
  select subject, payload->>'record_id' as key, (payload->>'rating')::int as rating, min(created_at_ns) as at_ns
  from mediation.outbox where subject in ('cdr.rated', 'cdr.reversed') group by all),
rated as (
  select o.*, r.rating, r.charge_minor, r.currency as rated_currency, r.reversed_at_ns, r.subscriber as rated_subscriber,
         r.units as rated_units, r.service as rated_service, r.visitor_of, r.started_at_ns, r.rated_at_ns,
         lag(r.reversed_at_ns) over record as before_reversed_ns, lag(t.at_ns) over record as before_told_ns, n.at_ns as told_ns
  from mediation.cdr_rated r join oracle o on o.key = r.record_id
  left join told t on (t.subject, t.key, t.rating) = ('cdr.reversed', r.record_id, r.rating)
  left join told n on (n.subject, n.key, n.rating) = ('cdr.rated', r.record_id, r.rating)
  window record as (partition by r.record_id order by r.rating)),
judged as (
  select *, case
    when rated_subscriber <> subscriber or rated_units <> units or rated_service <> service
         or started_at_ns <> ns(started_at) or visitor_of is distinct from partner then 'rated as something else than was sent'
    when before_minor is null and after_minor is null then 'rated, though it has no price'
    when rated_currency <> currency then 'rated in another currency'
    when reversed_at_ns is not null and not is_corrected then 'reversed, though no correction concerns it'
    when reversed_at_ns is not null and charge_minor is distinct from before_minor then 'a rating was reversed that was not at the old price'
    when rating > 1 and not is_corrected then 'rated anew, though no correction concerns it'
    when rating > 1 and charge_minor is distinct from after_minor then 'rated anew at another price'
    when rating > 1 and not coalesce(before_reversed_ns <= rated_at_ns, false) then 'rated anew before it was reversed'
    when rating > 1 and not coalesce(before_told_ns <= told_ns, false) then 'told as rated anew before it was told as reversed'
    when reversed_at_ns is null and must and charge_minor is distinct from after_minor then 'not at the price of the correction'
    when charge_minor is distinct from before_minor and charge_minor is distinct from after_minor then 'rated at another price'
  end as problem
  from rated)
select key as subject, problem, service, units, started_at::varchar as started_at, before_minor, after_minor, charge_minor as found_minor
from judged where problem is not null
union all
select s.record_id, 'suspended, though it can be rated', o.service, o.units, o.started_at::varchar, o.before_minor, o.after_minor, null
from mediation.suspense s join oracle o on o.key = s.record_id
where s.resolved_at is null and (o.before_minor is not null or (o.must and o.after_minor is not null))
union all
select r.key, 'not debited with its price', r.service, r.units, r.started_at::varchar, r.before_minor, r.after_minor, d.debited_minor
from rated r left join debited d using (key)
where r.reversed_at_ns is null and r.partner is null and d.debited_minor is distinct from if(r.must, r.after_minor, r.before_minor)
  and (r.must or d.debited_minor is distinct from r.after_minor)
union all
select r.key, 'another amount was given back', r.service, r.units, r.started_at::varchar, r.before_minor, r.after_minor, g.amount_minor
from rated r left join given_back g on g.reference = r.key || '#' || r.rating
where r.reversed_at_ns is not null and r.partner is null and g.amount_minor is distinct from r.before_minor
