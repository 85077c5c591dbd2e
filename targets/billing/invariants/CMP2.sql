-- id: CMP2
-- title: Where payments failed for long, edge has seen an outage
-- property: liveness
-- needs: select coalesce(sum(due), 0)::bigint from seconds
--
-- By the clients' own records: where less than half of the payments went well for 10 s on end there was an outage.
-- (What a restricted mode refuses is refused on purpose. An edge that is itself broken sees nothing.)
with restricted as (
  select committed_at_ns as from_ns, coalesce(lead(committed_at_ns) over (order by epoch), 9_000_000_000_000_000_000) as to_ns, mode
  from edge.mode),
edge_broken as (
  select injected_ns as from_ns, coalesce(healed_ns, load_ended_ns) as to_ns from faults, timeline
  where len(list_filter(touches, lambda part: part = 'edge' or part like 'client->%' or part like 'edge->db-%')) > 0
    and fault not in ('maintenance', 'lockdown')),
seconds as (
  select intended_ns // 1_000_000_000 as second, count(*) as due, count(*) filter (outcome = 'ok') as ok
  from operations
  where attempts > 0 and kind in ('topup', 'topup_replay', 'topup_conflict', 'invoice_payment', 'voucher', 'voucher_again', 'agent_payment', 'refund')
  group by all),
bad as (select second, second - row_number() over (order by second) as run from seconds where due >= 3 and ok < 0.5 * due),
broken as (
  select min(second) * 1_000_000_000 as from_ns, (max(second) + 1) * 1_000_000_000 as to_ns from bad group by run having count(*) >= 10)
select 'payments' as subject, 'they failed for 10 s and more, and edge has seen no outage' as problem, b.from_ns as at_ns
from broken b
where not exists (select 1 from edge.outage u where u.component = 'payments' and u.began_at_ns < b.to_ns and coalesce(u.ended_at_ns, b.to_ns) > b.from_ns)
  and not exists (select 1 from edge_broken x where x.from_ns < b.to_ns and x.to_ns > b.from_ns)
  and not exists (select 1 from restricted r where r.mode <> 'normal' and r.from_ns < b.to_ns and r.to_ns > b.from_ns)
