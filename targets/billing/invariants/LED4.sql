-- id: LED4
-- title: Replaying the journal gives the state
-- applies: topup invoice_payment voucher agent_payment refund charge spree usage usage_file session settlement
-- needs: select count(*) from charging.transaction where kind <> 'opening'
--
-- Balances and versions from the postings; what is reserved from the reservations that are open; what sessions have
-- brought in, and what buckets have used and hold, from the reservations.
with journal as (
  select account_id, sum(amount_minor) as balance_minor, max(account_version) as version, count(*) as postings,
         arg_max(balance_after_minor, account_version) as last_minor
  from charging.posting group by all),
accounts as (
  select a.id, a.balance_minor, a.version, coalesce(j.balance_minor, 0) as replayed_minor, coalesce(j.version, 0) as last_version,
         coalesce(j.postings, 0) as postings, coalesce(j.last_minor, 0) as last_minor
  from charging.account a left join journal j on j.account_id = a.id),
reservations as (
  select r.*, s.subscriber, s.service from charging.reservation r join charging.session s on s.id = r.session_id),
held as (
  select 'sub:' || subscriber || ':reserved' as id, sum(held_minor) as held_minor
  from reservations where state = 'open' group by all),
used as (
  select subscriber, service, sum(used_bucket_units) as used_units,
         coalesce(sum(bucket_units) filter (state = 'open'), 0) as reserved_units
  from reservations group by all)
select id as subject, 'the balance is not what the journal gives' as problem, balance_minor as found, replayed_minor as expected
from accounts where balance_minor <> replayed_minor or last_minor <> replayed_minor
union all
select id, 'the version is not the number of postings', version, postings
from accounts where version <> postings or version <> last_version
union all
select coalesce(a.id, h.id), 'what is reserved is not what open reservations hold', coalesce(a.balance_minor, 0), coalesce(h.held_minor, 0)
from (select * from charging.account where id like 'sub:%:reserved') a full join held h on h.id = a.id
where coalesce(a.balance_minor, 0) <> coalesce(h.held_minor, 0)
union all
select a.id, 'not what sessions were charged', a.balance_minor, r.charged_minor
from charging.account a, (select coalesce(sum(charged_minor), 0) as charged_minor from charging.reservation) r
where a.id = 'revenue:sessions' and a.balance_minor <> r.charged_minor
union all
select b.subscriber || ':' || b.service, 'used or held is not what its reservations give', b.used_units + b.reserved_units,
       coalesce(u.used_units, 0) + coalesce(u.reserved_units, 0)
from charging.bucket b left join used u using (subscriber, service)
where b.used_units <> coalesce(u.used_units, 0) or b.reserved_units <> coalesce(u.reserved_units, 0)
union all
select u.subscriber || ':' || u.service, 'used or held, and there is no such bucket', null, u.used_units
from used u anti join charging.bucket b using (subscriber, service)
