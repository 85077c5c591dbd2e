-- id: ROAM1
-- title: TAP files are whole, in sequence, and copies are inert; what is rejected comes again, once
-- applies: settlement tap-in tap-in-wrong tap-reject
-- needs: select count(*) from witness.partner where event = 'file_received' or (event = 'file_confirmed' and direction = 'in')
--
-- By the partners' log: each header's totals are those of its events, all in the currency agreed with the
-- partner; per partner and direction the sequences of the files that were taken run from 1 without a gap, each
-- once; nothing that had to be rejected was sent. By our tables: the same files with the same totals, and no
-- others. An event that its partner rejected is in exactly one later file of the same period, marked as
-- resubmitted, and no other is.
-- The partners' files are right, so we take each; but for those of a period whose settlement was being
-- posted, which begins no earlier than the last of our own files of that period has arrived. One that was
-- sent with a wrong header on purpose we do not take.
with agreed(partner, currency) as (values ('alfa', 'EUR'), ('beta', 'USD')),
lines as (select * from witness.partner),
exchanged as (
  select f.* from lines f where f.event = 'file_received'
  union all
  select s.* from lines s join lines c
    on c.event = 'file_confirmed' and c.direction = 'in' and c.period = s.period and c.ordinal = s.ordinal
  where s.event = 'file_sent'),
closing as (
  select r.period, greatest(r.started_at_ns, max(f.transmitted_at_ns)) as from_ns
  from roaming.settlement_run r left join roaming.tap_file f on f.period = r.period and f.direction = 'out'
  where r.state in ('posting', 'netting', 'done') group by r.period, r.started_at_ns),
events as (
  select f.seq, count(e.seq) as events, coalesce(sum(e.charge_minor), 0) as events_minor,
         count(distinct e.record_id) as records, count(*) filter (e.currency <> f.currency) as in_another
  from exchanged f left join lines e
    on e.event = 'tap_event' and e.seq > f.seq and e.seq <= f.seq + f.event_count
    and (e.partner, e.direction, e.sequence) = (f.partner, f.direction, f.sequence)
  group by all),
rejected as (
  select partner, period, record_id, min(at_ns) as at_ns, min(sequence) as sequence
  from lines where event = 'rap_record' group by all),
again as (
  select partner, period, record_id, count(*) as times, min(at_ns) as at_ns, min(sequence) as sequence
  from lines where event = 'tap_event' and direction = 'out' and resubmitted group by all),
ours as (
  select f.partner, f.direction, f.sequence, f.period, f.currency, f.event_count, f.total_minor, f.transmitted_at_ns,
         count(e.record_id) as events, coalesce(sum(e.charge_minor), 0) as events_minor
  from roaming.tap_file f left join roaming.tap_event e on e.file_id = f.id
  group by f.id, f.partner, f.direction, f.sequence, f.period, f.currency, f.event_count, f.total_minor, f.transmitted_at_ns)
select partner || ':' || direction || ':' || sequence as subject,
       'the header does not agree with the events' as problem,
       event_count || ' for ' || total_minor as said, events || ' for ' || events_minor as found
from exchanged join events using (seq)
where events <> event_count or records <> event_count or events_minor <> total_minor
union all
select x.partner || ':' || x.direction || ':' || x.sequence, 'not in the currency that was agreed', a.currency, x.currency
from exchanged x join events e using (seq) join agreed a on a.partner = x.partner
where x.currency is distinct from a.currency or e.in_another > 0
union all
select partner || ':' || direction, 'the sequences are not 1 to the last, each once', max(sequence)::varchar, count(*)::varchar
from exchanged group by partner, direction
having min(sequence) <> 1 or max(sequence) <> count(*) or count(distinct sequence) <> count(*)
union all
select r.partner || ':out:' || r.sequence, 'a file was sent that had to be rejected', r.event_count || ' for ' || r.total_minor, null
from lines r where r.event = 'file_rejected' and r.direction = 'out'
union all
select r.partner || ':in:' || r.sequence, 'we refused a file that had to be taken', r.event_count || ' for ' || r.total_minor, null
from lines r left join closing c using (period)
where r.event = 'file_rejected' and r.direction = 'in' and not coalesce(r.at_ns > c.from_ns, false)
union all
select partner || ':in:' || sequence, 'we took a file with a wrong header', event_count || ' for ' || total_minor, null
from lines where event = 'wrong_file_confirmed'
union all
select r.record_id, if(a.times is null, 'rejected, and never resubmitted', 'rejected, and resubmitted ' || a.times || ' times'),
       'after file ' || r.sequence, 'in file ' || a.sequence
from rejected r left join again a using (partner, period, record_id) where coalesce(a.times, 0) <> 1
union all
select a.record_id, if(r.record_id is null, 'resubmitted, and never rejected', 'resubmitted before it was rejected'), null, 'in file ' || a.sequence
from again a left join rejected r using (partner, period, record_id)
where r.record_id is null or a.at_ns < r.at_ns or a.sequence <= r.sequence
union all
select o.record_id, 'we keep it as rejected, which the partner never said, or the other way round', null, o.resubmitted::varchar
from roaming.tap_event o left join (select distinct partner, record_id from rejected) r using (partner, record_id)
where o.direction = 'out' and (coalesce(o.resubmitted, 0) > 0) <> (r.record_id is not null)
union all
select partner || ':' || direction || ':' || sequence, 'our own file does not agree with its events',
       event_count || ' for ' || total_minor, events || ' for ' || events_minor
from ours where event_count <> events or total_minor <> events_minor
union all
select coalesce(o.partner, x.partner) || ':' || coalesce(o.direction, x.direction) || ':' || coalesce(o.sequence, x.sequence),
       case when o.partner is null then 'the partner has a file that we have not'
            when x.partner is null then 'we have a file as exchanged that the partner has not'
            else 'the partner''s copy has other totals' end,
       o.event_count || ' for ' || o.total_minor, x.event_count || ' for ' || x.total_minor
from (select * from ours where transmitted_at_ns is not null) o full join exchanged x
  on (o.partner, o.direction, o.sequence) = (x.partner, x.direction, x.sequence)
where o.partner is null or x.partner is null or o.period <> x.period or o.currency is distinct from x.currency
   or o.event_count <> x.event_count or o.total_minor <> x.total_minor
