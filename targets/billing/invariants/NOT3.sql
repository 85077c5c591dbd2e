-- id: NOT3
-- title: Nothing is told that is not so
-- applies: topup topup_replay topup_conflict
-- needs: select count(*) from witness.gateway where event = 'delivered'
--
-- A delivery has its committed event, with the same recipient and content. And what it tells is
-- true by the PSPs' logs: the money of a settled payment was taken, that of a failed one was not.
with told as (
  select w.event_id, w.recipient, w.template, w.body, e.subject, e.payload->>'key' as key,
         e.payload->>'payment_id' as payment_id, 'sub:' || (e.payload->>'subscriber') as right_recipient,
         (e.payload->>'amount_minor')::bigint as amount_minor,
         -- the amount as a number of its own: 5.00 is told by neither 15.00 nor 5.001 (one pattern for
         -- all: a pattern per row would be compiled per row)
         list_contains(regexp_extract_all(w.body, '-?[0-9]+(?:[.,][0-9]+)*'),
                       format('{}.{:02d}', amount_minor // 100, amount_minor % 100)) as amount_told
  from witness.gateway w left join payments.outbox e using (event_id)
  where w.event = 'delivered' and w.recipient <> 'broadcast'),  -- of those speaks COM2
held as (
  select merchant_reference as key, sum(if(event = 'capture', amount_minor, -amount_minor)) as net_minor
  from witness.psp where event in ('capture', 'refund') group by all),
checked as (select told.*, coalesce(held.net_minor, 0) as held_minor from told left join held using (key))
select coalesce(key, event_id) as subject,
       case when key is null then 'told, but no such event was committed'
            when recipient <> right_recipient then 'told to somebody else'
            when template <> replace(subject, '.', '-') then 'told something else than the event says'
            when not contains(body, payment_id) or not amount_told
              then 'told another payment or amount'
            when template = 'payment-settled' then 'told as paid, but the PSPs do not hold the amount'
            else 'told as failed, but the PSPs hold money' end as problem,
       recipient, template, body, held_minor
from checked
where key is null or recipient <> right_recipient or template <> replace(subject, '.', '-')
   or not contains(body, payment_id) or not amount_told
   or (template = 'payment-settled' and held_minor <> amount_minor) or (template = 'payment-failed' and held_minor <> 0)
