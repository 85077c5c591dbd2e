-- id: RES1
-- title: Every reservation ends exactly once
-- applies: session
-- needs: select count(*) from charging.reservation where state <> 'open'
--
-- Posted, released or expired, finally none open; no more used or charged than was reserved; none expired before
-- its time; one grant for each request. By the ledger, reservation by reservation: what was held went to revenue as far as it was charged and
-- back for the rest, once. By the clients: what was granted to them was reserved.
with moved as (
  select t.reference, min(t.key) as session_id, count(*) filter (t.kind = 'reserve') as reserves,
         coalesce(sum(p.amount_minor) filter (t.kind = 'reserve'), 0) as reserved_minor,
         -coalesce(sum(p.amount_minor) filter (t.kind = 'session'), 0) as posted_minor,
         -coalesce(sum(p.amount_minor) filter (t.kind = 'release'), 0) as released_minor
  from charging.transaction t join charging.posting p on p.transaction_id = t.id
  where t.kind in ('reserve', 'session', 'release') and p.account_id like 'sub:%:reserved' group by all),
books as (
  select coalesce(r.session_id, m.session_id) as session_id, r.id as reservation_id, r.held_minor, r.charged_minor, r.state,
         coalesce(m.reserved_minor, 0) as reserved_minor, coalesce(m.posted_minor, 0) as posted_minor,
         coalesce(m.released_minor, 0) as released_minor
  from charging.reservation r full join moved m on m.reference = r.id),
grants as (
  select key, subscriber, unnest(range(acknowledged)) as request_number,
         unnest(((detail->'granted')::bigint[])[1:acknowledged]) as granted_units
  from (select key, subscriber, detail, (detail->>'acknowledged')::bigint as acknowledged
        from operations where kind = 'session' and detail is not null)),
reserved as (
  select r.session_id, s.subscriber, r.request_number, list(r.bucket_units + r.paid_units) as units
  from charging.reservation r join charging.session s on s.id = r.session_id group by all)
select session_id as subject, 'a reservation is still open' as problem, id as reservation_id, held_minor, null as found_minor
from charging.reservation where state = 'open'
union all
select id, 'the session was never ended', null, null, null from charging.session where state = 'open' or ended_at is null
union all
select session_id, 'it has ended, and has no end', id, held_minor, null from charging.reservation where (state = 'open') <> (ended_at is null)
union all
select session_id, 'more was used or charged than reserved', id, held_minor, charged_minor
from charging.reservation where used_bucket_units > bucket_units or used_paid_units > paid_units or charged_minor > held_minor
union all
select session_id, 'it was used, and not posted; or posted, and not used', id, held_minor, charged_minor
from charging.reservation where state <> 'open' and (state = 'posted') <> (used_bucket_units + used_paid_units > 0)
union all
select session_id, 'it expired before its time', id, held_minor, null
from charging.reservation where state = 'expired' and ended_at_ns < expires_at_ns - 50_000_000
union all
select session_id, 'one request was granted twice', min(id), null, count(*)
from charging.reservation where epoch is not null group by session_id, request_number having count(*) > 1
union all
select session_id, 'the ledger has no such reservation', reservation_id, reserved_minor, posted_minor + released_minor
from books where reservation_id is null
union all
select session_id, 'the ledger holds another amount', reservation_id, held_minor, reserved_minor
from books where reservation_id is not null and reserved_minor <> held_minor
union all
select session_id, 'the ledger charged another amount', reservation_id, charged_minor, posted_minor
from books where reservation_id is not null and posted_minor <> charged_minor
union all
select session_id, 'what was held is not what was charged and given back', reservation_id, reserved_minor, posted_minor + released_minor
from books where reservation_id is not null and state <> 'open' and posted_minor + released_minor <> reserved_minor
union all
select g.key, 'granted to the client, and not reserved', null, g.granted_units, null
from grants g left join reserved r on r.session_id = g.key and r.request_number = g.request_number and r.subscriber = g.subscriber
where g.granted_units > 0 and not coalesce(list_contains(r.units, g.granted_units), false)
