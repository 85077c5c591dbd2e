-- id: NOT2
-- title: Nobody is told twice
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment refund session billing-run campaign
-- needs: select count(*) from witness.gateway where event = 'delivered'
--
-- By the gateway's log: one delivery per event and recipient, and one per payment and what is told of it.
-- What could go wrong is a repeat: a message sent again because its first confirmation was lost. Sent under
-- the same message id it is a line `replay`, which the gateway does not deliver; under another id it is a
-- second `delivered`. `needs` counts deliveries, each of which had to be the only one: where nothing is
-- broken nothing is repeated, and a repeat that was made as it should be proves no more than none.
with delivered as (
  select w.event_id, w.recipient, w.template, e.payload->>'payment_id' as payment_id, e.payload->>'key' as key
  from witness.gateway w left join payments.outbox e using (event_id)
  where w.event = 'delivered' and w.recipient <> 'broadcast')  -- of those speaks COM2
select coalesce(any_value(key), event_id) as subject, 'one event was delivered more than once' as problem,
       recipient, count(*) as deliveries
from delivered group by event_id, recipient having count(*) > 1
union all
select any_value(key), 'one payment was told by several events', recipient, count(distinct event_id)
from delivered where payment_id is not null
group by payment_id, recipient, template having count(distinct event_id) > 1
