"""Reconciliation finds what no queue brings any more: mended where that is safe, else told."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import nats
import requests

from tests.integration.billing_processes import Launcher, Process, eventually, metrics, send

Rows = Callable[..., list[Any]]

LATER = "interval '1 minute'"  # instead of waiting: what is old enough to be reconciled
CREDITS = """
select t.key, p.amount_minor from charging.transaction t join charging.posting p on p.transaction_id = t.id
where t.kind = 'topup' and p.account_id like 'sub:%%' and t.key = any(%s)"""
DIFFERENCE = """
select problem, mended_at is not null from {}.difference where comparison = %s and reference = %s"""


async def lose_the_stream(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().purge_stream("BILLING")
    await client.close()


def settle_payments(launch: Launcher, keys: list[str]) -> tuple[Process, Process]:
    """Payments, and the PSP that took the money; each key's top-up is acknowledged."""
    psps = [launch("witnesses.psp", PSP_NAME=name) for name in ("psp-a", "psp-b")]
    payments = launch("billing.payments", PSP_A_URL=psps[0].url, PSP_B_URL=psps[1].url)
    for key in keys:
        body = {"subscriber": 9, "amount_minor": 700}
        answer = requests.post(
            f"{payments.url}/topups", json=body, headers={"Idempotency-Key": key}, timeout=5
        )
        assert answer.status_code == 201
    return payments, psps[0]


def test_events_that_the_broker_lost_are_sent_again_and_credited_once(
    launch: Launcher, rows: Rows, nats_url: str, service_url: Callable[[str], str]
) -> None:
    keys = [uuid.uuid4().hex for _ in range(3)]
    payments, _ = settle_payments(launch, keys)
    mine = "payload->>'key' = any(%s)"
    sent = f"select count(*) from payments.outbox where sent_at is not null and {mine}"
    eventually("all events are confirmed by the broker", lambda: rows(sent, keys)[0][0] == 3)
    asyncio.run(lose_the_stream(nats_url))
    gateway = launch("witnesses.gateway")
    launch("billing.charging", REPLICA_URL=service_url("charging"))
    launch("billing.notify", GATEWAY_URL=gateway.url)
    time.sleep(4)
    assert rows(CREDITS, keys) == [], "nothing else brings a lost event back"

    rows(f"update payments.outbox set sent_at = sent_at - {LATER} where {mine} returning 1", keys)
    rows(
        f"update payments.payment set finished_at = finished_at - {LATER} where key = any(%s) returning 1",
        keys,
    )
    eventually("all are credited", lambda: len(rows(CREDITS, keys)) == 3)
    told = f"select count(*) from notify.inbox join payments.outbox using (event_id) where {mine}"
    eventually("all are told", lambda: rows(told, keys)[0][0] == 3)
    assert sorted(rows(CREDITS, keys)) == sorted((key, 700) for key in keys)
    assert rows(f"select distinct resends from payments.outbox where {mine}", keys) == [(1,)]
    assert metrics(payments)["reconciliation.resent"] >= 3
    closed = """
    select count(*) from payments.difference d join payments.payment p on p.id::text = d.reference
    where p.key = any(%s) and comparison = 'ledger' and mended_at is not null"""
    eventually("the differences are mended", lambda: rows(closed, keys)[0][0] == 3)


def test_money_that_only_one_side_knows_is_told_and_left_alone(launch: Launcher, rows: Rows) -> None:
    rows("delete from payments.psp_statement returning 1")  # of an earlier provider, whose numbers begin anew
    key = uuid.uuid4().hex
    payments, psp_a = settle_payments(launch, [key])
    ghost = uuid.uuid4().hex
    order = {"payment_id": ghost, "merchant_reference": ghost, "subscriber": 9, "amount_minor": 800}
    headers = {"Idempotency-Key": ghost}
    assert requests.post(f"{psp_a.url}/charges", json=order, headers=headers, timeout=5).status_code == 201
    read = "update payments.psp_statement set read_at = read_at - " + LATER + " where key = %s returning 1"
    eventually("the statement is read", lambda: rows(read, ghost))
    difference = DIFFERENCE.format("payments")
    found = eventually("it is told", lambda: rows(difference, "psp_a", ghost))
    assert found == [("the provider has taken 800; we say nothing", False)]
    mine = "select id::text from payments.payment where key = %s"
    assert rows(difference, "psp_a", rows(mine, key)[0][0]) == []
    assert rows(CREDITS, [ghost]) == [] and metrics(payments)["reconciliation.open"] >= 1


def test_rated_usage_without_a_debit_and_files_without_a_receipt_are_told(
    launch: Launcher, rows: Rows
) -> None:
    record, period = uuid.uuid4().hex, f"R{uuid.uuid4().hex[:6]}"
    mediation = launch("billing.mediation")
    partner = launch("witnesses.partner", ROAMING_URL="http://127.0.0.1:9")
    roaming = launch("billing.roaming", PARTNER_URL=partner.url)
    cdr = {
        "record_id": record,
        "subscriber": 3,
        "service": "sms",
        "units": 2,
        "started_at": "2026-01-01T10:00:00Z",
    }
    assert send(mediation, "/cdrs", cdr) == 202
    rated = f"update mediation.cdr_rated set rated_at = rated_at - {LATER} where record_id = %s returning 1"
    eventually("it is rated", lambda: rows(rated, record))
    file = rows(
        f"""insert into roaming.tap_file (partner, direction, sequence, period, currency, event_count,
                                          total_minor, content_hash, transmitted_at)
            values ('beta', 'out', 999999, %s, 'USD', 1, 5, '', now() - {LATER}) returning id""",
        period,
    )
    try:
        of_usage = eventually("told", lambda: rows(DIFFERENCE.format("mediation"), "debits", f"{record}#1"))
        assert of_usage == [("rated 12, and never debited", False)]
        of_file = eventually("told", lambda: rows(DIFFERENCE.format("roaming"), "files", "beta:out:999999"))
        assert of_file == [(f"we have ('{period}', 'USD', 1, 5), the partner no such file", False)]
    finally:
        rows("delete from roaming.tap_file where id = %s returning 1", file[0][0])
    mended = DIFFERENCE.format("roaming")
    eventually("it is mended", lambda: rows(mended, "files", "beta:out:999999")[0][1])
    assert metrics(roaming)["reconciliation.found"] >= 1
