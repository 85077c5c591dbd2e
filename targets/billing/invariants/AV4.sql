-- id: AV4
-- title: While one payment provider is cut off, the other takes its share
-- applies: partition
-- when: select count(*) > 0 from due
-- needs: select coalesce(sum(payments), 0)::bigint from (select count(*) as payments from due group by id) where payments >= 20
--
-- Of the payments that were due while payments, as proved, could not reach one provider, and nothing else was broken,
-- the other one took at least 95 %: the client was told so, and the provider's own log has the capture (or the refusal
-- of an amount that it declines) under the client's key. From 5 s on: first it must be noticed that the provider does
-- not answer. 20 payments at least. Of a fault that is no cut (an answer may be late) nothing is said here, nor of what
-- was due within 5 s of another fault: one that was not proved may have broken something, too.
with faulted as (
  select id, injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) as until_ns,
         proved and fault = 'partition' and list_contains(touches, 'payments->psp-a')
           and len(list_filter(touches, lambda name: not regexp_matches(name, 'psp-a'))) = 0 as a_off,
         proved and fault = 'partition' and list_contains(touches, 'payments->psp-b')
           and len(list_filter(touches, lambda name: not regexp_matches(name, 'psp-b'))) = 0 as b_off
  from faults, timeline where injected_ns is not null),
due as (
  select f.id, if(f.a_off, 'psp-b', 'psp-a') as rescuer, o.key, o.outcome
  from operations o join faulted f
    on (f.a_off or f.b_off) and o.intended_ns >= f.from_ns + 5e9 and o.intended_ns < f.until_ns
  where o.kind in ('topup', 'invoice_payment') and o.invoked_ns is not null and o.amount_minor is not null
    and not exists (select 1 from faulted other where other.id <> f.id
                    and o.intended_ns >= other.from_ns - 5e9 and o.intended_ns < other.until_ns + 5e9)),
judged as (
  select id, rescuer, outcome, exists (select 1 from witness.psp w where w.witness = due.rescuer
           and w.event in ('capture', 'decline') and w.merchant_reference = due.key) as taken
  from due)
select id as subject, 'the other provider did not take its share' as problem, rescuer, count(*) as due,
       count(*) filter (outcome = 'ok') as told_ok, count(*) filter (taken) as taken,
       count(*) filter (taken and outcome = 'ok') as rescued
from judged group by id, rescuer
having count(*) >= 20 and count(*) filter (taken and outcome = 'ok') < 0.95 * count(*)
