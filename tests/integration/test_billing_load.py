"""The billing locustfile against the contract in targets/billing/README.md, played by a small server."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.tiny_server import Reply, Request, TinyServer
from harness.load import records
from harness.load.driver import LoadDriver
from harness.plan import LoadPlan, RateSegment
from harness.spawn import LocalSpawner

TARGET = Path(__file__).resolve().parents[2] / "targets/billing"
MIX = {"topup": 40, "topup_replay": 10, "topup_conflict": 10, "balance": 10, "charge": 10, "usage": 10}
PENDING_KEYS = "01"  # the first digit of a key decides: pending, settled later
REFUSED_KEYS = "2"


class Edge:
    """What edge answers; keeps each request for the test."""

    def __init__(self) -> None:
        self.payments: dict[str, tuple[dict[str, Any], str]] = {}
        self.asked: Counter[str] = Counter()
        self.requests: dict[str, list[Request]] = defaultdict(list)

    def __call__(self, request: Request) -> Reply:
        parts = urlsplit(request.path)
        self.requests[parts.path.split("/")[1]].append(request)
        if parts.path == "/topups":
            return self.topup(request.headers["idempotency-key"], request.json)
        if parts.path.startswith("/payments/"):
            return self.payment(parts.path.removeprefix("/payments/"))
        if parts.path == "/credit-control":
            return Reply(
                201, {"transaction_id": "t-" + request.headers["idempotency-key"], "balance_minor": 77}
            )
        if parts.path == "/cdrs":
            return Reply(202, {"record_id": request.json["record_id"]})
        read = parse_qs(parts.query)["read"][0]
        return Reply(200, {"balance_minor": -5 if read == "replica" else 5, "version": 3, "as_of": "now"})

    def topup(self, key: str, body: dict[str, Any]) -> Reply:
        if key[0] in REFUSED_KEYS:
            return Reply(503, headers=(("Retry-After", "7"),))
        first, payment_id = self.payments.setdefault(key, (body, str(uuid.uuid4())))
        if first != body:
            return Reply(422)
        if body["amount_minor"] % 100 == 13:
            return Reply(402)
        if key[0] in PENDING_KEYS:
            return Reply(202, {"payment_id": payment_id, "status": "pending"})
        return Reply(
            201, {"payment_id": payment_id, "status": "settled", "amount_minor": body["amount_minor"]}
        )

    def payment(self, payment_id: str) -> Reply:
        key, body = next((k, b) for k, (b, id) in self.payments.items() if id == payment_id)
        self.asked[payment_id] += 1
        if self.asked[payment_id] < 2:
            return Reply(500) if key[1] in "0123" else Reply(200, {"status": "pending"})
        status = "settled" if key[0] == "0" else "failed"
        return Reply(200, {"payment_id": payment_id, "status": status, "amount_minor": body["amount_minor"]})


def run(tmp_path: Path, edge: Edge) -> list[dict[str, Any]]:
    segments = (RateSegment(at_s=0, rate_per_s=250),)
    plan = LoadPlan(
        seed=11,
        arrivals="poisson",
        segments=segments,
        mix=MIX | {"roaming": 10},
        subscribers=20,
        max_duration_s=4,
    )
    spawner = LocalSpawner()
    try:
        with TinyServer(edge) as server:
            driver = LoadDriver(
                plan,
                host_url=server.url,
                locustfile=TARGET / "locustfile.py",
                python_path=[TARGET],
                spawner=spawner,
                folder=tmp_path,
            )
            driver.start()
            deadline = time.monotonic() + 15
            while driver.alive() and time.monotonic() < deadline:
                time.sleep(0.05)
            summary = driver.stop()
    finally:
        spawner.close()
    assert summary.exit_code == 0 and summary.sent == summary.recorded > 800, driver.log.read_text()
    return records.read(driver.operations_file).to_pylist()


def test_the_billing_load_keeps_its_contract(tmp_path: Path) -> None:
    edge = Edge()
    rows = run(tmp_path, edge)
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        assert not (row["error"] or "").startswith("locustfile"), row
        row["detail"] = json.loads(row["detail"] or "{}")
        by_kind[row["kind"]].append(row)
    assert set(by_kind) == {*MIX, "roaming"}
    check_topups(by_kind["topup"], edge)
    check_replays(by_kind["topup_replay"], by_kind["topup"], edge)
    check_conflicts(by_kind["topup_conflict"], by_kind["topup"])
    check_reads_and_charges(by_kind)
    check_records(by_kind, edge)


def check_topups(topups: list[dict[str, Any]], edge: Edge) -> None:
    declined = 0
    for row in topups:
        assert 100 <= row["amount_minor"] <= 5000 and row["attempts"] == 1
        if row["key"][0] in REFUSED_KEYS:
            assert (row["outcome"], row["status"], row["detail"]) == ("fail", 503, {"retry_after": "7"})
            continue
        payment_id = edge.payments[row["key"]][1]
        if row["amount_minor"] % 100 == 13:
            declined += 1
            assert (row["outcome"], row["status"], row["ref"]) == ("ok", 402, None)
        elif row["key"][0] in PENDING_KEYS:
            settled = row["key"][0] == "0"
            assert (row["outcome"], row["ref"]) == ("ok" if settled else "fail", payment_id)
            assert row["result"] == (row["amount_minor"] if settled else None)
        else:
            assert (row["outcome"], row["status"]) == ("ok", 201)
            assert (row["ref"], row["result"]) == (payment_id, row["amount_minor"])
    assert 0 < declined < 0.04 * len(topups)


def check_replays(replays: list[dict[str, Any]], topups: list[dict[str, Any]], edge: Edge) -> None:
    originals = {row["key"]: row for row in topups}
    for row in replays:
        original = originals[row["key"]]
        for column in ("subscriber", "amount_minor", "outcome", "ref"):
            assert row[column] == original[column]
    bodies = defaultdict(set)
    for request in edge.requests["topups"]:
        bodies[request.headers["idempotency-key"]].add(request.body)
    assert all(len(bodies[row["key"]]) <= 2 for row in replays), "a replay's payload is the same to the byte"


def check_conflicts(conflicts: list[dict[str, Any]], topups: list[dict[str, Any]]) -> None:
    originals = {row["key"]: row for row in topups}
    assert len(conflicts) > 40
    for row in conflicts:
        original = originals[row["key"]]
        assert original["outcome"] == "ok" and original["completed_ns"] <= row["invoked_ns"]
        assert row["amount_minor"] != original["amount_minor"]
        assert (row["outcome"], row["status"]) == ("ok", 422)


def check_reads_and_charges(by_kind: dict[str, list[dict[str, Any]]]) -> None:
    reads = Counter((row["detail"]["read"], row["result"]) for row in by_kind["balance"])
    assert set(reads) == {("primary", 5), ("replica", -5)}
    assert {(row["detail"]["version"], row["detail"]["as_of"]) for row in by_kind["balance"]} == {(3, "now")}
    assert {row["amount_minor"] for row in by_kind["balance"]} == {None}
    for row in by_kind["charge"]:
        assert (row["ref"], row["result"], row["outcome"]) == (f"t-{row['key']}", 77, "ok")
        assert row["amount_minor"] >= 100 and row["detail"] == {"service": "content"}


def check_records(by_kind: dict[str, list[dict[str, Any]]], edge: Edge) -> None:
    sent = {request.json["record_id"]: request.json for request in edge.requests["cdrs"]}
    for row in by_kind["usage"] + by_kind["roaming"]:
        record, detail = sent[row["key"]], row["detail"]
        assert (record["service"], record["units"]) == (detail["service"], detail["units"])
        assert record.get("visitor_of") == detail.get("partner")
        assert record["started_at"].endswith("+00:00") and record["units"] > 0
        assert row["outcome"] == "ok"
    assert {row["detail"]["partner"] for row in by_kind["roaming"]} == {"alfa", "beta"}
    assert {row["detail"]["service"] for row in by_kind["roaming"]} == {"data", "voice", "sms"}
