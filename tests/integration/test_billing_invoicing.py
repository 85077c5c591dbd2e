"""Invoicing as a real process, with PostgreSQL and NATS; what other services would say is published here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import nats.js.errors
import psycopg
import requests

from tests.integration.billing_processes import Launcher, eventually, metrics

Rows = Callable[..., list[Any]]
SOON = {"DUE_AFTER_S": "0.5", "DUNNING_EVERY_S": "0.5", "DUNNING_GRACE_S": "0.5"}


async def _publish(url: str, events: list[tuple[str, dict[str, Any]]]) -> None:
    client = await nats.connect(url)
    for subject, fields in events:
        await client.jetstream().publish(subject, json.dumps(fields).encode())
    await client.close()


def publish(url: str, *events: tuple[str, dict[str, Any]]) -> None:
    """Each as (subject, fields); events get an id of their own."""
    named = [(subject, {"event_id": str(uuid.uuid4()), **fields}) for subject, fields in events]
    asyncio.run(_publish(url, named))


async def _forget(url: str) -> None:
    client = await nats.connect(url)
    with contextlib.suppress(nats.js.errors.NotFoundError):
        await client.jetstream().purge_stream("BILLING")
    await client.close()


def forget_what_others_used(rows: Rows, url: str) -> None:
    """Other tests' subscribers are the same: what they used must not be on the bills here."""
    asyncio.run(_forget(url))
    rows("delete from invoicing.item where invoice_id is null returning 1")


def used(record_id: str, subscriber: int, charge_minor: int, **other: Any) -> tuple[str, dict[str, Any]]:
    fields = {"record_id": record_id, "rating": 1, "subscriber": subscriber, "service": "data", "units": 1}
    told = {"charge_minor": charge_minor, "currency": "EUR", "started_at": "2026-07-01T12:00:00+00:00"}
    return other.pop("subject", "cdr.rated"), {**fields, **told, **other}


def bill(url: str, period: str) -> requests.Response:
    return requests.post(f"{url}/billruns/{period}", timeout=5)


def test_a_billing_run_killed_half_way_bills_everyone_once(
    launch: Launcher, rows: Rows, nats_url: str, service_url: Callable[[str], str]
) -> None:
    period, mark = f"P{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:8]
    forget_what_others_used(rows, nats_url)
    invoicing = launch("billing.invoicing")
    eventually("the stream is there", lambda: "broker.connects" in metrics(invoicing))
    customers = [5 * n for n in range(1, 31)]
    usage = [used(f"{mark}-{n}-{i}", n, 10 + i) for n in customers for i in range(3)]
    prepaid = used(f"{mark}-prepaid", 7, 99, event_id=str(uuid.uuid4()))
    odd = used(f"{mark}-odd", 5, 99, currency="USD")
    nothing = used(f"{mark}-free", 895, 40), used(f"{mark}-free", 895, 40, subject="cdr.reversed")
    again = used(f"{mark}-5-0", 5, 10, subject="cdr.reversed"), used(f"{mark}-5-0", 5, 4, rating=2)
    publish(nats_url, prepaid, *usage, *usage[:9], *nothing, *again)
    mine = "select record_id from invoicing.item where record_id like %s"
    eventually("all items are in", lambda: len(rows(mine, f"{mark}-%")) == 90 + 4)
    dealt_with = "select from invoicing.inbox where event_id = %s"
    eventually("the prepaid one is dealt with", lambda: rows(dealt_with, prepaid[1]["event_id"]))
    assert not rows(mine, f"{mark}-prepaid")

    billed = "select number, subscriber, total_minor from invoicing.invoice where period = %s order by number"
    with psycopg.connect(service_url("invoicing")) as other:  # holds up the second batch
        other.execute("select from item where record_id = %s for update", [f"{mark}-105-0"])
        assert bill(invoicing.url, period).status_code == 202
        eventually("the first batch is billed", lambda: rows(billed, period))
        invoicing.kill()
        other.execute("insert into item values (%s, 1, 'usage', 120, 'data', 1, 77)", [f"{mark}-late"])
    assert len(rows(billed, period)) == 20
    invoicing.start()
    done = eventually(
        "it goes on by itself", lambda: (a := bill(invoicing.url, period)).status_code == 200 and a
    )
    made = rows(billed, period)
    assert [subscriber for _, subscriber, _ in made] == customers
    assert [number - made[0][0] for number, _, _ in made] == list(range(30))
    totals = {subscriber: total for _, subscriber, total in made}
    assert totals == {**dict.fromkeys(customers, 33), 5: 27}
    assert done.json()["total_minor"] == sum(totals.values()) and done.json()["carried"] >= 1
    unbilled = (
        "select record_id from invoicing.item where record_id like %s and invoice_id is null order by 1"
    )
    assert [r for (r,) in rows(unbilled, f"{mark}-%")] == [f"{mark}-free", f"{mark}-free", f"{mark}-late"]
    said = "select payload->>'invoice_id' from invoicing.outbox where payload->>'period' = %s"
    assert len(rows(said, period)) == len(set(rows(said, period))) == 30
    publish(nats_url, odd)
    assert invoicing.stop() == 0


def test_steps_wait_for_the_notice_the_payment_and_the_end_of_an_outage(
    launch: Launcher, rows: Rows, nats_url: str
) -> None:
    # Another test's edge may have recorded outages of which this invoicing never hears: they freeze dunning.
    rows("delete from edge.outage_affected returning 1")
    rows("delete from edge.outage returning 1")
    period, mark = f"P{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:8]
    invoicing = launch("billing.invoicing", **SOON)
    eventually("the stream is there", lambda: "broker.connects" in metrics(invoicing))
    customers = (700, 705, 710, 715)
    publish(nats_url, *(used(f"{mark}-{n}", n, 50) for n in customers))
    in_hand = "select from invoicing.item where record_id like %s"
    eventually("all items are in", lambda: len(rows(in_hand, f"{mark}-%")) == len(customers))
    eventually("all is billed", lambda: bill(invoicing.url, period).status_code == 200)
    issued = (
        "select id::text, event_id::text from invoicing.invoice"
        " where period = %s and subscriber = any(%s) order by subscriber"
    )
    told, untold, paying, paid = rows(issued, period, list(customers))
    outage, began_at = str(uuid.uuid4()), datetime.now(UTC) - timedelta(seconds=61)
    rows(
        "insert into edge.outage (id, component, began_at) values (%s, 'payments', %s) returning 1",
        outage,
        began_at,
    )
    payment, settled = str(uuid.uuid4()), str(uuid.uuid4())
    for payment_id, state, invoice in ((payment, "unknown", paying), (settled, "settled", paid)):
        rows(
            "insert into payments.payment (id, key, kind, subscriber, invoice_id, amount_minor, state, epoch)"
            " values (%s, %s, 'invoice', 710, %s, 50, %s, 1) returning 1",
            *(payment_id, payment_id, invoice[0], state),
        )
    fields = {"payment_id": settled, "kind": "invoice", "invoice_id": paid[0], "subscriber": 715}
    notices = [("notice.delivered", {"source_event_id": event}) for _, event in (told, paying, paid)]
    publish(nats_url, *notices, ("payment.settled", {**fields, "amount_minor": 60}))
    steps = (
        "select step from invoicing.dunning_step s join invoicing.invoice i on i.id = s.invoice_id"
        " where period = %s and i.id = %s order by step"
    )
    mine = f"{invoicing.url}/invoices?subscriber=715&state=paid"
    found = eventually("the payment is known", lambda: requests.get(mine, timeout=5).json()["invoices"])
    assert found[0]["invoice_id"] == paid[0] and found[0]["paid_minor"] == 60
    time.sleep(1.5)  # due since long, and nothing comes
    assert not rows(steps, period, told[0])

    ended_at = datetime.now(UTC)
    met = [7, 901, *range(1000, 1120)]
    rows("insert into edge.outage_affected select %s, unnest(%s::bigint[]) returning 1", outage, met)
    rows("update edge.outage set ended_at = %s where id = %s returning 1", ended_at, outage)
    lockdown = "insert into edge.mode (mode) values ('lockdown') returning 1"
    rows(lockdown)
    ends = {"began_at": began_at.isoformat(), "ended_at": ended_at.isoformat(), "affected": len(met)}
    ended = ("ops.outage.ended", {"outage_id": outage, "component": "payments", **ends})
    publish(nats_url, ended, ended)
    credit = "select moved_ms from invoicing.grace_credit where outage_id = %s and invoice_id = %s"
    eventually("the due date has moved", lambda: rows(credit, outage, told[0]))
    moved_ms = rows(credit, outage, told[0])[0][0]
    assert 0 < moved_ms < 60_000 and not rows(credit, outage, paid[0])
    granted = "select subscriber, amount_minor from invoicing.compensation where outage_id = %s order by 1"
    time.sleep(0.5)
    assert not rows(granted, outage)  # no money moves in a lockdown
    rows("insert into edge.mode (mode) values ('normal') returning 1")
    eventually("all are compensated", lambda: len(rows(granted, outage)) == len(met))
    assert rows(granted, outage) == [(n, 40) for n in sorted(met)]
    eventually("all three steps", lambda: len(rows(steps, period, told[0])) == 3)
    assert (
        not rows(steps, period, untold[0])
        and not rows(steps, period, paying[0])
        and not rows(steps, period, paid[0])
    )
    assert invoicing.stop() == 0
