"""Damage one record of a legal history, and some invariant must convict.

Each damage is what a real bug leaves behind: a row lost, doubled, or with another amount. The history is
the base of ``tests/histories``, held in memory and rolled back after each example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.check.invariants import parse_invariant, run_invariant
from tests.histories.history import BILLING, base, evidence
from tests.histories.test_histories import INVARIANTS, PRESENT

FILES = [
    parse_invariant((BILLING / "invariants" / f"{name}.sql").read_text(encoding="utf-8"), name)
    for name in INVARIANTS
]


@dataclass(frozen=True)
class Target:
    """A table, the rows of it that matter, its amounts, and what makes a copy another record.

    ``renamed`` None: its key lets the database hold no second row like it.
    """

    table: str
    where: str = "true"
    amounts: tuple[str, ...] = ()
    renamed: str | None = None
    drop: bool = True


TARGETS = (
    Target("witness.psp", "event = 'capture'", ("amount_minor",), "key"),
    Target("witness.gateway", "event = 'delivered'", (), "message_id"),
    Target("witness.partner", "event = 'tap_event'", ("charge_minor",)),
    Target("witness.partner", "event = 'file_received'", ("total_minor", "event_count", "sequence")),
    Target("witness.partner", "event = 'file_sent'", ("total_minor", "event_count", "sequence")),
    Target("operations", "kind = 'topup' and status = 201", ("amount_minor", "subscriber")),
    Target("operations", "kind = 'charge' and outcome = 'ok'", ("amount_minor", "subscriber")),
    Target("operations", "kind = 'balance'", ("result",), drop=False),
    Target("payments.payment", "state = 'settled'", (), "id"),
    Target("payments.outbox", "true", (), "event_id"),
    Target("charging.transaction", "true", (), "id"),
    Target("charging.posting", "true", ("amount_minor", "balance_after_minor"), "transaction_id"),
    Target("charging.posting", "true", ("account_version",)),
    Target("charging.account", "true", ("balance_minor",)),
    Target("charging.session", "true", ("used_units", "charged_minor", "leaked_units", "leaked_minor"), "id"),
    Target("charging.reservation", "true", ("bucket_units", "paid_units", "held_minor"), "id"),
    Target("charging.reservation", "true", ("used_bucket_units", "used_paid_units", "charged_minor")),
    Target("charging.bucket", "true", ("used_units", "reserved_units")),
    Target("charging.outbox", "true", (), "event_id"),
    Target("charging.inbox", "true", ()),
    Target("notify.inbox", "true", ()),
    Target("mediation.cdr_raw", "true", (), "record_id"),
    Target("mediation.cdr_rated", "true", ("charge_minor", "units", "subscriber"), "record_id"),
    Target("mediation.suspense", "resolved_at is null", (), "record_id"),
    Target("mediation.cdr_file", "true", ("records", "accepted", "malformed"), "name"),
    Target("mediation.malformed_line", "true", ()),
    Target("roaming.tap_event", "true", ("charge_minor",), "record_id"),
    Target("roaming.tap_file", "true", ("total_minor", "event_count", "sequence"), "id"),
    Target("roaming.settlement", "true", ("total_minor",)),
    Target("roaming.settlement_run", "true", ()),
    Target("roaming.netting", "true", ("receivable_minor", "payable_minor")),
    Target("roaming.outbox", "true", (), "event_id"),
    Target("witness.partner", "event = 'rap_record'"),
    Target("witness.partner", "event = 'nrtrde_record'", ("units",)),
    Target("witness.partner", "event = 'netting_agreed'", ("receivable_minor", "payable_minor")),
    Target("witness.partner", "event = 'netting_agreed'", ("own_receivable_minor", "own_payable_minor")),
    Target("edge.announcement", "true", ()),
    Target("edge.outage_affected", "true", ("subscriber",)),
    Target("invoicing.invoice", "period = 'P1'", ("total_minor", "paid_minor", "number", "subscriber"), "id"),
    Target("invoicing.invoice_line", "true", ("amount_minor",)),
    Target("invoicing.item", "true", ("amount_minor", "subscriber"), "record_id"),
    Target("invoicing.payment_in", "true", ("amount_minor",), "payment_id"),
    Target("invoicing.dunning_step", "true", ("open_minor", "step"), "event_id"),
    Target("invoicing.compensation", "true", ("amount_minor", "subscriber")),
    Target("invoicing.outbox", "true", (), "event_id"),
    Target("witness.psp", "event = 'refund'", ("amount_minor",), "key"),
    Target("payments.refund", "true", ("amount_minor",)),
    Target("payments.psp_callback", "true", ()),
    Target("operations", "kind = 'voucher' and outcome = 'ok'", ("subscriber",), drop=False),
    Target("operations", "kind = 'agent_payment' and outcome = 'ok'", ("subscriber",), drop=False),
)  # fmt: skip
ANY_ROW = st.integers(0, 1000)
CHANGE = st.integers(-60, 60).filter(bool)


@pytest.fixture(scope="module")
def legal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The base as tables that can be damaged."""
    connection = evidence(base(), tmp_path_factory.mktemp("legal"))
    for name in {target.table for target in TARGETS} - {"witness.psp", "witness.gateway", "witness.partner"}:
        short = name.rpartition(".")[2]
        connection.execute(f"create table {name}_held as select * from {name}")
        connection.execute(f"drop view {name}")
        connection.execute(f"alter table {name}_held rename to {short}")
    yield connection
    connection.close()


def convicting(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The invariants that convict, as they are found: to ask for the first is much the cheapest."""
    return (file.id for file in FILES if run_invariant(connection, file, PRESENT).answer == "fail")


def damage(connection: duckdb.DuckDBPyConnection, target: Target, kind: str, row: int, change: int) -> str:
    """Do it; returns what was done."""
    rows = connection.execute(
        f"select rowid from {target.table} where {target.where} order by all"
    ).fetchall()
    rowid = rows[row % len(rows)][0]
    if kind == "drop":
        statement = f"delete from {target.table} where rowid = {rowid}"
    elif kind == "double":
        other = ""
        if target.renamed == "id" and target.table == "roaming.tap_file":
            other = " replace (id + 100 as id)"
        elif target.renamed:
            other = f" replace ({target.renamed} || '-again' as {target.renamed})"
        statement = f"insert into {target.table} select *{other} from {target.table} where rowid = {rowid}"
    else:
        statement = f"update {target.table} set {kind} = {kind} + ({change}) where rowid = {rowid}"
    connection.execute(statement)
    return statement


@st.composite
def damages(draw: st.DrawFn) -> tuple[Target, str, int, int]:
    target = draw(st.sampled_from(TARGETS))
    kinds = ["drop"] * target.drop + ["double"] * (target.renamed is not None) + [*target.amounts]
    return target, draw(st.sampled_from(kinds)), draw(ANY_ROW), draw(CHANGE)


def test_the_history_is_legal(legal: duckdb.DuckDBPyConnection) -> None:
    assert list(convicting(legal)) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages())
@example((TARGETS[0], "drop", 0, 1))
@example((TARGETS[10], "double", 5, 1))
def test_damage_is_convicted(legal: duckdb.DuckDBPyConnection, what: tuple[Target, str, int, int]) -> None:
    legal.execute("begin")
    try:
        done = damage(legal, *what)
        assert any(convicting(legal)), f"nobody noticed: {done}"
    finally:
        legal.execute("rollback")
