-- id: SEC1
-- title: In a lockdown no money moves, on any path
-- applies: lockdown
-- needs: select count(*) from operations o join lockdowns l on o.invoked_ns > l.from_ns + 1_000_000_000 and o.invoked_ns < l.to_ns where o.kind in ('topup', 'invoice_payment', 'voucher', 'refund', 'charge', 'spree', 'session')
--
-- From a lockdown's commit to its lifting: what a client asked more than a second in was not done (a
-- refusal that was due is no success); no payment was opened, and nothing charged, granted or compensated in the
-- books, not even in the first second; and no PSP took or gave back money, but for what was with it
-- already: 5 s, the longest that a call and its repetitions take.
with changes as (
  select epoch, mode, committed_at_ns as from_ns,
         lead(committed_at_ns, 1, (select coalesce(load_ended_ns, collected_ns) from timeline)) over (order by epoch) as to_ns
  from edge.mode),
lockdowns as (select * from changes where mode = 'lockdown'),
asked as (
  select o.key, o.kind, o.invoked_ns, l.epoch
  from operations o join lockdowns l on o.invoked_ns > l.from_ns + 1_000_000_000 and o.completed_ns < l.to_ns
  where o.kind in ('topup', 'invoice_payment', 'voucher', 'agent_payment', 'refund', 'charge', 'spree', 'session')
    and o.outcome = 'ok' and coalesce(o.status, 200) < 400),
begun as (
  select key, 'payment opened' as what, created_at_ns as at_ns from payments.payment
  union all
  select key, kind || ' posted', created_at_ns from charging.transaction where kind = 'charge'
  union all
  select outage_id || ':' || subscriber, 'compensation granted', granted_at_ns from invoicing.compensation
  union all
  -- What a session had used already, and reports late, is taken: it opens and posts a reservation in one.
  select t.key, 'units granted', t.created_at_ns
  from charging.transaction t left join charging.reservation r on r.id = t.reference
  where t.kind = 'reserve' and not coalesce(r.epoch is null and r.state = 'posted' and r.ended_at_ns - r.opened_at_ns < 50_000_000, false)),
moved as (
  select coalesce(merchant_reference, key) as key, event || ' at ' || witness as what, at_ns
  from witness.psp where event in ('capture', 'refund'))
select key as subject, kind || ' done in a lockdown' as problem, epoch, invoked_ns as at_ns from asked
union all
select b.key, what || ' in a lockdown', l.epoch, at_ns from begun b join lockdowns l on at_ns > from_ns and at_ns < to_ns
union all
select m.key, what || ' in a lockdown', l.epoch, at_ns
from moved m join lockdowns l on at_ns > from_ns + 5_000_000_000 and at_ns < to_ns
