-- id: roaming_denials
-- title: Roaming refused or not answered
-- unit: count
-- group: settlement
-- applies: roaming_auth
--
-- Authorisations at partners with whom an agreement is in force. (That with gamma has ended: its refusals are right.)
select if(count(*) = 0, null, count(*) filter (outcome <> 'ok' or result is distinct from 1)) as value
from operations where kind = 'roaming_auth' and coalesce(detail->>'partner', '') <> 'gamma'
