-- The gate of the committing transaction: whoever moves money asks to be admitted in the transaction that
-- does it. Who is admitted holds a shared lock until the commit; a change of mode takes it exclusively. So a
-- lockdown commits after all that was admitted before it, and what asks later sees it, on whatever node,
-- however long that was away. Workers ask, too.
create function public.admit(work text) returns bigint
language plpgsql volatile security definer set search_path = edge as $$
declare in_force edge.mode;
begin
  perform pg_advisory_xact_lock_shared(hashtext('edge.mode'));
  -- A statement of its own: its snapshot is taken after the lock.
  select * into in_force from edge.mode order by epoch desc limit 1;
  if in_force.mode = 'lockdown' and work = 'money' then
    raise exception using errcode = 'LQ503', message = 'no money moves in a lockdown',
      detail = format('epoch %s', in_force.epoch);
  end if;
  return in_force.epoch;
end $$;
revoke execute on function public.admit(text) from public;
grant execute on function public.admit(text) to payments, charging, invoicing;
-- What the services may know of outages: dunning stands still, and those who met one are compensated.
create view public.outage as select id, component, began_at, ended_at from edge.outage;
create view public.outage_affected as select outage_id, subscriber from edge.outage_affected;
create view public.mode_in_force as select epoch, mode, committed_at from edge.mode order by epoch desc limit 1;
grant select on public.outage, public.outage_affected, public.mode_in_force to payments, charging, mediation, invoicing, notify, roaming;
