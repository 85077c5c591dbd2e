-- id: SEC2
-- title: What a lockdown finds under way is finished, or cleanly refused
-- applies: lockdown
-- needs: select count(*) from under_way
--
-- Under way: invoked before a lockdown was committed, or so soon after it that it need not have got about, and
-- ended after it. Refused: with 503 and a Retry-After, and then nothing was taken for it. Left open: its
-- payment comes to an end all the same. An answer of another kind than these (but an answer of its own: done,
-- declined, over the limit) is the lockdown's doing, where no other fault lay in that time. Such is a 503 without
-- a Retry-After that left it open, too: edge answers so for a session when charging does not answer in time.
with lockdowns as (select epoch, committed_at_ns as at_ns from edge.mode where mode = 'lockdown'),
other_faults as (
  select injected_ns, coalesce(healed_ns, load_ended_ns) + recover_within_s * 1e9 as over_ns
  from faults, timeline, experiment where fault <> 'lockdown' and injected_ns is not null),
under_way as (
  select o.*, l.epoch, coalesce(regexp_full_match(detail->>'retry_after', '[0-9]+'), false) as says_when
  from operations o join lockdowns l on o.invoked_ns < l.at_ns + 1_000_000_000 and o.completed_ns > l.at_ns
  where o.kind in ('topup', 'invoice_payment', 'voucher', 'refund', 'charge', 'spree', 'session')),
held as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all)
select u.key as subject, 'refused, and money was taken for it' as problem, kind, status, completed_ns as at_ns
from under_way u join held using (key)
where u.outcome = 'fail' and u.kind in ('topup', 'invoice_payment') and held.net_minor <> 0
  -- asked again later under the same key, it may well have been taken
  and not exists (select 1 from operations o where o.key = u.key and o.outcome <> 'fail')
union all
select u.key, 'refused without a Retry-After that can be read', kind, status, completed_ns
from under_way u where outcome = 'fail' and status = 503 and not says_when
union all
select u.key, 'its payment never came to an end', u.kind, u.status, u.completed_ns
from under_way u join payments.payment p using (key) where p.state in ('pending', 'unknown')
union all
select u.key, 'neither done nor cleanly refused', kind, status, completed_ns
from under_way u
where u.outcome = 'unknown' and coalesce(status, 0) <> 202 and not (coalesce(status, 0) = 503 and says_when)
  and not exists (select 1 from other_faults f where u.completed_ns > f.injected_ns and u.invoked_ns < f.over_ns)
