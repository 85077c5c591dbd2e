-- From the commit of a payment's event to its delivery, by the gateway's log. An event that was never
-- delivered has no value: it counts as infinitely late.
select e.created_at_ns as at_ns, (min(w.at_ns) - e.created_at_ns) / 1e6 as value_ms
from payments.outbox e left join witness.gateway w on w.event_id = e.event_id and w.event = 'delivered'
where e.subject in ('payment.settled', 'payment.failed')
group by e.event_id, e.created_at_ns
