"""Settlements against the ledger, our TAP files against the partners', and nettings that they dispute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from billing.common import CallFailed, Database, HttpClient, Service
from billing.common.reconciliation import GRACE_S, Difference, Reconciliation, ask

CONSUMERS = {"settlement.closed": ("charging",), "settlement.netted": ("charging",)}

_LEDGER = """
select period || ':' || partner || ':' || direction as reference,
       'settled ' || total_minor || ', and not in the ledger' as problem from settlement s
where total_minor <> 0 and created_at < clock_timestamp() - make_interval(secs => $1)
  and not exists (select from public.ledger_entry l where l.kind = 'settlement'
                  and l.reference = period || ':' || partner || ':' || direction)"""

_DISPUTED = """
select period || ':' || partner || ':' || currency as reference,
       'we find ' || receivable_minor || ' receivable and ' || payable_minor || ' payable, the partner '
       || their_receivable_minor || ' and ' || their_payable_minor as problem
from netting where state = 'disputed' and disputed_at < clock_timestamp() - make_interval(secs => $1)"""

_FILES = """
select partner, direction, sequence, period, currency, event_count, total_minor,
       coalesce(transmitted_at < clock_timestamp() - make_interval(secs => $1), false) as is_due
from tap_file"""

# Partner, direction and sequence; then period, currency, events and total.
Files = Mapping[tuple[str, str, int], tuple[str, str, int, int]]


def file_differences(ours: Files, due: set[tuple[str, str, int]], theirs: Files) -> list[Difference]:
    """``due``: those of ours that the partner must have by now."""
    found = []
    for name in sorted({*due, *theirs}):
        if ours.get(name) != theirs.get(name):
            problem = (
                f"we have {ours.get(name, 'no such file')}, the partner {theirs.get(name, 'no such file')}"
            )
            found.append(Difference(":".join(map(str, name)), problem))
    return found


class Exchange:
    """The files that went to and fro."""

    def __init__(self, partner: HttpClient, database: Database) -> None:
        self._partner = partner
        self._database = database

    async def compare(self) -> Sequence[Difference] | None:
        try:
            answer = await self._partner.call("GET", "/files")
        except CallFailed:
            return None
        if answer.status != 200 or not isinstance(answer.body, dict):
            return None
        rows = await ask(self._database, _FILES, GRACE_S)  # later: all that they have, we must have
        theirs = dict(_named(row) for row in answer.body["files"])
        return file_differences(
            dict(_named(row) for row in rows), {_named(row)[0] for row in rows if row["is_due"]}, theirs
        )


def _named(row: Mapping[str, object]) -> tuple[tuple[str, str, int], tuple[str, str, int, int]]:
    name = (row["partner"], row["direction"], row["sequence"])
    content = (row["period"], row["currency"], row["event_count"], row["total_minor"])
    return name, content  # type: ignore[return-value]


def reconciliation(service: Service) -> Reconciliation:
    """All comparisons of roaming, ready to run."""
    made = Reconciliation(service, CONSUMERS)
    made.compare_by_sql("ledger", _LEDGER)
    made.compare_by_sql("netting", _DISPUTED)
    client = service.client("partner.files", "PARTNER", timeout_s=3.0, attempts=1)
    made.compare("files", Exchange(client, service.database).compare)
    return made
