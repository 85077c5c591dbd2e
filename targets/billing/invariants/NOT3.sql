-- id: NOT3
-- title: Nothing is told that is not so
-- applies: topup topup_replay topup_conflict invoice_payment voucher agent_payment refund session billing-run
-- needs: select count(*) from witness.gateway where event = 'delivered'
--
-- A delivery has its committed event, with the same recipient and content. And what it tells is true by the
-- PSPs' logs: the money of a settled payment was taken, that of a failed one was not, that of a refund was given
-- back. (Vouchers and cash pass no PSP. A campaign's copy belongs to its campaign. Of bulletins to all speaks COM2.)
with events as (
  select event_id, subject, payload from payments.outbox union all
  select event_id, subject, payload from charging.outbox union all
  select event_id, subject, payload from invoicing.outbox),
told as (
  select w.event_id, w.recipient, w.template, w.body, e.subject, coalesce(e.payload->>'key', w.recipient) as key,
         e.event_id is not null as committed,
         'sub:' || (e.payload->>'subscriber') as right_recipient, e.payload->>'psp' as channel,
         coalesce(e.payload->>'amount_minor', e.payload->>'total_minor', e.payload->>'open_minor')::bigint as amount_minor,
         -- what else must stand in it, in so many words
         coalesce(e.payload->>'payment_id', e.payload->>'number', (e.payload->>'percent') || ' % of your ' || (e.payload->>'service'), '') as named,
         -- the amount as a number of its own: 5.00 is told by neither 15.00 nor 5.001 (one pattern for
         -- all: a pattern per row would be compiled per row)
         amount_minor is null
           or list_contains(regexp_extract_all(w.body, '-?[0-9]+(?:[.,][0-9]+)*'),
                            format('{}.{:02d}', amount_minor // 100, amount_minor % 100)) as amount_told
  from witness.gateway w left join events e using (event_id)
  where w.event = 'delivered' and w.recipient <> 'broadcast' and w.template <> 'campaign'),
moved as (
  select coalesce(merchant_reference, p.key) as key, sum(w.amount_minor) filter (event = 'capture') as taken_minor,
         coalesce(sum(w.amount_minor) filter (event = 'refund'), 0) as returned_minor
  from witness.psp w left join payments.payment p on p.id = w.payment_id
  where event in ('capture', 'refund') group by all),
checked as (
  select told.*, coalesce(taken_minor, 0) as taken_minor, coalesce(returned_minor, 0) as returned_minor,
         channel is null or channel not in ('voucher', 'agent') as by_psp
  from told left join moved using (key)),
judged as (
  select *, case
    when not committed then 'told, but no such event was committed'
    when recipient <> right_recipient then 'told to somebody else'
    when template <> replace(subject, '.', '-') then 'told something else than the event says'
    when not contains(body, named) or not amount_told then 'told another payment or amount'
    when template = 'payment-settled' and by_psp and taken_minor <> amount_minor
      then 'told as paid, but the PSPs did not take the amount'
    when template = 'payment-failed' and taken_minor <> returned_minor then 'told as failed, but the PSPs hold money'
    when template = 'payment-refunded' and returned_minor <> amount_minor
      then 'told as given back, but the PSPs did not give it'
  end as problem
  from checked),
campaigns as (
  select w.event_id, w.recipient, w.body, c.body as right_body
  from witness.gateway w left join notify.campaign c using (event_id)
  where w.event = 'delivered' and w.template = 'campaign')
select if(committed, key, event_id) as subject, problem, recipient, template, body, taken_minor, returned_minor
from judged where problem is not null
union all
select event_id, if(right_body is null, 'a copy of no campaign', 'a campaign told otherwise than it was ordered'),
       recipient, 'campaign', body, null, null
from campaigns where right_body is distinct from body
