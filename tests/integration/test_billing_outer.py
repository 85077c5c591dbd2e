"""Mediation, notify and roaming as real processes, with PostgreSQL, NATS and the witnesses.

Each test breaks something on purpose (kill -9, a lost reply, copies) and compares what the services
kept with what the witnesses wrote down.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import nats
import psycopg
import requests

from tests.integration.billing_processes import (
    Launcher,
    Muffler,
    Process,
    eventually,
    free_port,
    metrics,
    send,
)

Lines = list[dict[str, Any]]
Totals = dict[tuple[str, str], int]
WORDS = ("header", "currency", "missing", "settled already", "another file", "billed before")


def cdr(number: int, **other: Any) -> dict[str, Any]:
    return {
        "record_id": f"{other.pop('prefix')}-{number}",
        "subscriber": 1 + number % 50,
        "service": "data",
        "units": 1000 + number,
        "started_at": "2026-01-01T10:00:00Z",
        **other,
    }


def test_a_record_is_rated_once_whatever_happens(launch: Launcher, rows: Callable[..., list[Any]]) -> None:
    mediation = launch("billing.mediation")
    prefix = uuid.uuid4().hex[:8]
    records = [cdr(n, prefix=prefix) for n in range(150)]
    odd = {**cdr(999, prefix=prefix), "service": "fax"}
    accepted = []
    for record in [odd, *records[:90]]:  # the odd one first: it must hold up nobody
        accepted.append(send(mediation, "/cdrs", record))
        if len(accepted) == 80:
            mediation.kill()
            mediation.start()
    assert accepted.count(202) == 91
    for record in [*records, odd]:  # again, and the rest
        assert send(mediation, "/cdrs", record) == 202
    assert send(mediation, "/cdrs", {**records[0], "units": 1}) == 422
    assert send(mediation, "/cdrs", {**records[0], "units": "many"}) == 400
    mine = f"{prefix}-%"
    unprocessed = "select 1 from mediation.cdr_raw where record_id like %s and processed_at is null"
    eventually("all records are processed", lambda: not rows(unprocessed, mine))

    rated = dict(
        rows("select record_id, charge_minor from mediation.cdr_rated where record_id like %s", mine)
    )
    in_tens = {r["record_id"]: -(-r["units"] // 10) * 10 for r in records}  # at the peak price of that month
    assert rated == {key: (units * 24_000 + 500_000) // 1_000_000 for key, units in in_tens.items()}
    suspended = rows("select record_id, reason from mediation.suspense where record_id like %s", mine)
    assert [record_id for record_id, _ in suspended] == [odd["record_id"]] and "fax" in suspended[0][1]
    published = (
        "select payload->>'record_id', (payload->>'charge_minor')::bigint from mediation.outbox"
        " where subject = 'cdr.rated' and payload->>'record_id' like %s and sent_at is not null"
    )
    events = eventually("all events are sent", lambda: (e := rows(published, mine)) and len(e) >= 150 and e)
    assert len(events) == 150 and dict(events) == rated
    usage = requests.get(f"{mediation.url}/usage", params={"subscriber": 7}, timeout=5).json()
    assert usage["total_minor"] >= sum(rated[f"{prefix}-{n}"] for n in (6, 56, 106))
    assert mediation.stop() == 0


async def publish(url: str, subject: str, events: list[dict[str, Any]], copies: int = 1) -> None:
    client = await nats.connect(url)
    for event in events * copies:  # without a message id: the broker lets copies through
        await client.jetstream().publish(subject, json.dumps(event).encode())
    await client.close()


def deliver_what_others_left(rows: Callable[..., list[Any]], nats_url: str, event: dict[str, Any]) -> None:
    """Wait until notify has done with all events of earlier tests; ``event``, of another id, ends them.

    A gateway that is silent is asked for one notice in seconds: that would be theirs, one after the other.
    """
    last = {**event, "event_id": str(uuid.uuid4())}
    asyncio.run(publish(nats_url, "payment.settled", [last]))
    kept = "select from notify.notification where event_id = %s"
    left = "select from notify.notification where delivered_at is null and next_attempt_at < 'infinity'"
    eventually("others' are delivered", lambda: rows(kept, last["event_id"]) and not rows(left))


def test_a_notice_is_delivered_once_though_the_reply_is_lost(
    launch: Launcher, rows: Callable[..., list[Any]], nats_url: str
) -> None:
    gateway = launch("witnesses.gateway")
    muffler = Muffler(int(gateway.url.rpartition(":")[2]))
    notify = launch("billing.notify", GATEWAY_URL=f"http://127.0.0.1:{muffler.port}")
    eventually("the stream is there", lambda: "broker.connects" in metrics(notify))
    event: dict[str, Any] = {"payment_id": "p", "key": "k", "subscriber": 7, "amount_minor": 500}
    events = [{**event, "event_id": str(uuid.uuid4())} for _ in range(300)]
    ids = [e["event_id"] for e in events]
    deliver_what_others_left(rows, nats_url, event)
    muffler.mute = True
    asyncio.run(publish(nats_url, "payment.settled", events, copies=2))
    eventually("the gateway got one", lambda: any(line["event_id"] in ids for line in gateway.lines()))
    notify.kill()  # with a reply outstanding
    notify.start()
    time.sleep(0.3)
    muffler.mute = False
    delivered = (
        "select count(*) from notify.notification where event_id = any(%s) and delivered_at is not null"
    )
    eventually("all notices are delivered", lambda: rows(delivered, ids)[0][0] == 300)
    muffler.close()

    log = [line for line in gateway.lines() if line["event_id"] in set(ids)]
    by_kind = Counter(line["event"] for line in log)
    assert by_kind["delivered"] == 300 and by_kind["replay"] >= 1 and by_kind["refused"] == 0
    assert {line["event_id"] for line in log if line["event"] == "delivered"} == set(ids)
    assert {line["recipient"] for line in log} == {"sub:7"}
    shown = requests.get(f"{notify.url}/notifications", params={"subscriber": 7}, timeout=5).json()
    assert len(shown["notifications"]) == 100


def test_a_notice_that_the_gateway_refuses_is_parked_and_holds_up_nobody(
    launch: Launcher, rows: Callable[..., list[Any]], nats_url: str
) -> None:
    gateway = launch("witnesses.gateway")
    notify = launch("billing.notify", GATEWAY_URL=gateway.url)
    eventually("the stream is there", lambda: "broker.connects" in metrics(notify))
    event: dict[str, Any] = {"payment_id": "p", "key": "k", "subscriber": 8, "amount_minor": 500}
    bad, good = ({**event, "event_id": str(uuid.uuid4())} for _ in range(2))
    notice_id = uuid.uuid5(uuid.UUID("6b0f4f7c-58a8-4b0e-9d43-0a5f3d1c7e52"), f"{bad['event_id']}/sub:8")
    taken = {"message_id": str(notice_id), "event_id": "e", "recipient": "r", "template": "t", "body": "b"}
    assert send(gateway, "/messages", taken) == 202  # so that notify's own message will be refused
    asyncio.run(publish(nats_url, "payment.failed", [bad, good]))
    state = "select refusals, delivered_at is not null from notify.notification where event_id = %s"
    eventually("the good one is delivered", lambda: (r := rows(state, good["event_id"])) and r[0][1])
    # Eight refusals with growing pauses would take half a minute: shorten the pauses from outside.
    hurry = (
        "update notify.notification set next_attempt_at = now()"
        " where event_id = %s and refusals < 8 returning 1"
    )
    eventually("it is parked", lambda: not rows(hurry, bad["event_id"]))
    assert rows(state, bad["event_id"]) == [(8, False)]
    refused = [line for line in gateway.lines() if line["event"] == "refused"]
    assert len(refused) == 8
    assert requests.post(f"{notify.url}/deliveries/replay", timeout=5).json()["replayed"] >= 1
    eventually("it was tried again", lambda: rows(state, bad["event_id"])[0][0] >= 1)


def check_totals(ours: Totals, log: Lines, rows: Callable[..., list[Any]], period: str) -> None:
    """Both sides have the same sums, and each was posted once."""
    theirs: Counter[tuple[str, str]] = Counter()
    for line in log:
        if line["event"] == "tap_event":
            theirs[line["partner"], line["direction"]] += line["charge_minor"]
    assert ours == dict(theirs) and len(ours) == 4
    events = rows(
        "select payload->>'partner', payload->>'direction', (payload->>'total_minor')::bigint"
        " from roaming.outbox where subject = 'settlement.closed' and payload->>'period' = %s",
        period,
    )
    assert len(events) == 4 and {(p, d): total for p, d, total in events} == ours


def check_billed_once(ours: Totals, log: Lines, rows: Callable[..., list[Any]], records: set[str]) -> None:
    """The partners were told of each record once, at what it was rated."""
    billed = [
        line["record_id"] for line in log if line["event"] == "tap_event" and line["direction"] == "out"
    ]
    assert sorted(billed) == sorted(records)
    rated = rows(
        "select sum(charge_minor)::bigint from mediation.cdr_rated where record_id = any(%s)", billed
    )
    assert rated[0][0] == ours["alfa", "out"] + ours["beta", "out"]


def check_netted(ours: Totals, log: Lines, rows: Callable[..., list[Any]], period: str) -> None:
    """Each partner has agreed to its figures, in its currency, and there is one event of it."""
    agreed = {line["partner"]: line for line in log if line["event"] == "netting_agreed"}
    events = rows(
        "select payload from roaming.outbox where subject = 'settlement.netted'"
        " and payload->>'period' = %s order by payload->>'partner'",
        period,
    )
    assert [(event["partner"], event["currency"]) for (event,) in events] == [
        ("alfa", "EUR"),
        ("beta", "USD"),
    ]
    for (event,) in events:
        line, partner = agreed[event["partner"]], event["partner"]
        assert line["currency"] == event["currency"]
        assert line["own_receivable_minor"] == event["receivable_minor"] == ours[partner, "out"]
        assert line["own_payable_minor"] == event["payable_minor"] == ours[partner, "in"]


def check_resubmitted(log: Lines) -> None:
    """Three events were rejected, once; they came in a later file, marked."""
    rejected = {line["record_id"] for line in log if line["event"] == "rap_record"}
    again = [line for line in log if line["event"] == "tap_event" and line["resubmitted"]]
    assert len(rejected) == 3 and {line["record_id"] for line in again} == rejected and len(again) == 3
    first = min(line["sequence"] for line in log if line["event"] == "events_rejected")
    assert min(line["sequence"] for line in again) > first


def check_files_in_order(log: Lines, rows: Callable[..., list[Any]], period: str) -> None:
    """Files came without gaps, none twice under another number, none too large."""
    for home in ("alfa", "beta"):
        received = [
            line["sequence"] for line in log if line["event"] == "file_received" and line["partner"] == home
        ]
        files = rows(
            "select sequence, event_count from roaming.tap_file"
            " where period = %s and partner = %s and direction = 'out' order by sequence",
            period,
            home,
        )
        assert received == [sequence for sequence, _ in files] == list(range(1, len(files) + 1))
        assert max(count for _, count in files) <= 40


def test_settlement_killed_half_way_posts_once_and_both_sides_agree(
    launch: Launcher, rows: Callable[..., list[Any]]
) -> None:
    period, prefix = f"P{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:8]
    roaming_port = free_port()
    partner = launch("witnesses.partner", ROAMING_URL=f"http://127.0.0.1:{roaming_port}")
    mediation = launch("billing.mediation")
    roaming = launch("billing.roaming", PARTNER_URL=partner.url, port=roaming_port)
    settle = f"{roaming.url}/settlements/{period}"
    for n in range(250):
        home = "alfa" if n % 3 else "beta"
        assert send(mediation, "/cdrs", cdr(n, prefix=prefix, visitor_of=home)) == 202
    collected = "select count(*) from roaming.tap_event where record_id like %s and direction = 'out'"
    eventually("roaming has the events", lambda: rows(collected, f"{prefix}-%")[0][0] == 250)
    emit = f"{partner.url}/emit?files=4&events=30&wrong=1&period={period}"
    eventually("the partners' files are in", lambda: requests.post(emit, timeout=5).status_code == 200)
    assert [line["event"] for line in partner.lines()].count("wrong_file_rejected") == 1
    reject = f"{partner.url}/reject?partner=alfa&events=3&period={period}"
    assert requests.post(reject, timeout=5).status_code == 200

    assert requests.post(settle, timeout=5).status_code == 202
    sent = (
        "select count(*) from roaming.tap_file"
        " where period = %s and direction = 'out' and transmitted_at is not null"
    )
    eventually("two files are confirmed", lambda: rows(sent, period)[0][0] >= 2)
    roaming.kill()
    assert rows(sent, period)[0][0] < 9 and not rows(
        "select 1 from roaming.settlement where period = %s", period
    )
    assert send(mediation, "/cdrs", cdr(500, prefix=prefix, visitor_of="alfa")) == 202  # goes on meanwhile
    roaming.start()
    unfinished = "select 1 from roaming.settlement_run where period = %s and state <> 'done'"
    eventually("the run resumes by itself", lambda: not rows(unfinished, period))
    done = requests.post(settle, timeout=5)
    assert done.status_code == 200

    log = [line for line in partner.lines() if line.get("period") == period]
    ours = {(s["partner"], s["direction"]): s["total_minor"] for s in done.json()["settlements"]}
    check_totals(ours, log, rows, period)
    check_billed_once(ours, log, rows, {f"{prefix}-{n}" for n in range(250)})
    check_files_in_order(log, rows, period)
    check_resubmitted(log)
    check_netted(ours, log, rows, period)

    def told() -> list[str]:
        return sorted(line["record_id"] for line in partner.lines() if line["event"] == "nrtrde_record")

    whole = sorted(f"{prefix}-{n}" for n in [*range(250), 500])
    eventually("all is reported", lambda: len(told()) >= len(whole))
    assert told() == whole
    check_inbound_rules(roaming, rows, period, named_like=f"{prefix}-0")
    check_disputed(roaming, partner, rows, period)
    assert roaming.stop() == 0
    for table in ("netting", "settlement", "settlement_run"):  # nobody will ever agree to it
        rows(f"delete from roaming.{table} where period = %s returning 1", f"{period}-later")


def test_a_settlement_takes_what_came_before_it_and_was_committed_after(
    launch: Launcher, service_url: Callable[[str], str], rows: Callable[..., list[Any]]
) -> None:
    period, record_id = f"P{uuid.uuid4().hex[:6]}", f"late-{uuid.uuid4()}"
    # Nobody takes its files: what it has collected can be taken back, sequence numbers and all.
    roaming = launch("billing.roaming", PARTNER_URL=f"http://127.0.0.1:{free_port()}")
    state = "select state from roaming.settlement_run where period = %s"
    with psycopg.connect(service_url("roaming")) as late:
        late.execute(
            "insert into tap_event"
            " (record_id, partner, direction, service, units, charge_minor, currency, started_at)"
            " values (%s, 'alfa', 'out', 'data', 1, 1, 'EUR', now())",
            [record_id],
        )
        assert requests.post(f"{roaming.url}/settlements/{period}", timeout=5).status_code == 202
        time.sleep(0.5)
        assert rows(state, period) == [("collecting",)]
    eventually("all is collected", lambda: rows(state, period) == [("transmitting",)])
    roaming.stop()
    taken = rows("select period from roaming.tap_event where record_id = %s", record_id)
    for table in ("tap_event", "tap_file", "settlement_run"):
        rows(f"delete from roaming.{table} where period = %s returning 1", period)
    assert taken == [(period,)]


def check_disputed(roaming: Process, partner: Process, rows: Callable[..., list[Any]], period: str) -> None:
    """The file of ``check_inbound_rules`` is none of the partner's: that stays open; other periods go on."""
    later = f"{period}-later"
    assert send(roaming, f"/settlements/{later}", {}) == 202
    disputed = "select state, payable_minor, their_payable_minor from roaming.netting where period = %s"
    eventually("it is disputed", lambda: rows(disputed, later) == [("disputed", 9, 0)])
    other = f"{roaming.url}/settlements/{period}-other"
    eventually("another period ends", lambda: requests.post(other, timeout=5).status_code == 200)
    assert requests.post(f"{roaming.url}/settlements/{later}", timeout=5).json()["state"] == "netting"
    assert any(line["event"] == "netting_disputed" for line in partner.lines())
    netted = "select 1 from roaming.outbox where subject = 'settlement.netted' and payload->>'period' = %s"
    assert not rows(netted, later)


def check_inbound_rules(
    roaming: Process, rows: Callable[..., list[Any]], period: str, *, named_like: str
) -> None:
    """A copy is inert; wrong totals, gaps, reuse and closed periods are rejected with a RAP row.

    The partner's record may have the name of one of ours.
    """
    later = f"{period}-later"
    event = {"record_id": named_like, "service": "data", "units": 1, "charge_minor": 9}
    file = {
        "sender": "alfa", "recipient": "home", "partner": "alfa", "sequence": 3,
        "period": later, "currency": "EUR",
        "events": [event], "event_count": 1, "total_minor": 9,
    }  # fmt: skip
    assert send(roaming, "/tap/in", {**file, "total_minor": 8}) == 422
    assert send(roaming, "/tap/in", {**file, "currency": "USD"}) == 422
    assert send(roaming, "/tap/in", {**file, "sequence": 4}) == 422
    assert send(roaming, "/tap/in", {**file, "period": period}) == 422
    assert send(roaming, "/tap/in", file) == 200
    assert send(roaming, "/tap/in", file) == 200
    assert send(roaming, "/tap/in", {**file, "events": [{**event, "units": 2}]}) == 422
    assert send(roaming, "/tap/in", {**file, "sequence": 4}) == 422  # the same record again
    assert send(roaming, "/tap/in", {**file, "partner": "gamma"}) == 400
    assert rows("select count(*) from roaming.tap_event where period = %s", later)[0][0] == 1
    reasons = [reason for (reason,) in rows("select reason from roaming.rap order by id")]
    for number, word in enumerate(WORDS):
        assert word in reasons[-len(WORDS) + number]
