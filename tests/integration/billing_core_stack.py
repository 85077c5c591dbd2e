"""Payments, charging and edge with the two PSPs and the broker, as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import requests

from billing.common import Database, Limits, Log, Metrics
from harness.spawn import LocalChild, LocalSpawner
from tests.integration.billing_processes import BILLING, eventually, free_port

SUBSCRIBER = 801


class Stack:
    """The processes, and what their outside shows."""

    def __init__(self, folder: Path, postgres_url: str) -> None:
        self.folder = folder
        self.spawner = LocalSpawner()
        self.children: dict[str, LocalChild] = {}
        self.database = psycopg.connect(postgres_url, autocommit=True)
        names = ("broker", "psp-a", "psp-b", "payments", "charging", "edge", "nowhere")
        self.ports = {name: free_port() for name in names}
        self.host = postgres_url.split("@")[1].split("/")[0]
        self._pool = ThreadPoolExecutor(32)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, *names: str) -> None:
        for name in names:
            self.children[name] = self.spawner.spawn(
                name,
                self._argv(name),
                env=self._environment(name),
                cwd=BILLING,
                log=self.folder / f"{name}.log",
            )
        for name in names:
            if name != "broker":
                eventually(f"{name} is ready", lambda name=name: self.ready(name), within_s=10)

    def ready(self, name: str) -> bool:
        try:
            return requests.get(f"{self.url(name)}/ready", timeout=1).status_code == 200
        except requests.RequestException:
            return False

    def _argv(self, name: str) -> list[str]:
        if name == "broker":
            binary = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
            assert binary is not None, "no nats-server: install the extra 'stack'"
            data = str(self.folder / "nats")
            return [binary, "-a", "127.0.0.1", "-p", str(self.ports["broker"]), "-js", "-sd", data]
        module = "witnesses.psp" if name.startswith("psp") else f"billing.{name}"
        return [sys.executable, "-m", module]

    def _environment(self, name: str) -> dict[str, str]:
        # The first host accepts and closes at once or refuses: services must get past it.
        database = f"postgresql://{name}@127.0.0.1:{self.ports['nowhere']},{self.host}/billing"
        services = {
            f"{other.upper()}_URL": self.url("nowhere")
            for other in ("mediation", "notify", "roaming", "invoicing")
        }
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{BILLING / 'services'}:{BILLING}",
            "LISTEN": f"127.0.0.1:{self.ports[name]}",
            "DATABASE_URL": f"{database}?target_session_attrs=read-write",
            "REPLICA_URL": f"{database}?target_session_attrs=prefer-standby",
            "BROKER_URL": f"nats://127.0.0.1:{self.ports['broker']}",
            "PSP_A_URL": self.url("psp-a"),
            "PSP_B_URL": self.url("psp-b"),
            "PAYMENTS_URL": self.url("payments"),
            "CHARGING_URL": self.url("charging"),
            "LOG_FILE": str(self.folder / f"{name}.jsonl"),
            "PSP_NAME": name,
            "CALLBACK_URL": self.url("payments"),
            "CALLBACK_KEY": "a-test-key-and-no-secret",
            **services,
        }

    def signal(self, name: str, number: int) -> None:
        self.children[name].signal(number)

    def silence_psp_a(self) -> None:
        """Once payments trusts it (again), so that the next payment goes there."""

        def trusted() -> bool:
            return bool(requests.get(f"{self.url('payments')}/metrics", timeout=2).json()["psp_a.available"])

        eventually("psp-a is preferred", trusted, within_s=5)
        self.signal("psp-a", signal.SIGSTOP)

    def top_up(self, amount_minor: int, key: str | None = None, at: str = "edge") -> requests.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"subscriber": SUBSCRIBER, "amount_minor": amount_minor}
        return requests.post(f"{self.url(at)}/topups", json=body, headers=headers, timeout=15)

    def pay_invoice(self, amount_minor: int, key: str) -> requests.Response:
        """Pay an invoice of any id: payments asks nobody whether there is one."""
        body = {"subscriber": SUBSCRIBER, "amount_minor": amount_minor}
        url = f"{self.url('payments')}/invoices/{uuid4()}/payments"
        return requests.post(url, json=body, headers={"Idempotency-Key": key}, timeout=15)

    def redeem(self, code: str, key: str, at: str = "edge") -> requests.Response:
        body = {"subscriber": SUBSCRIBER, "code": code}
        url = f"{self.url(at)}/vouchers/redeem"
        return requests.post(url, json=body, headers={"Idempotency-Key": key}, timeout=10)

    def hand_in(self, *receipts: str, amount_minor: int = 450, at: str = "edge") -> requests.Response:
        """A batch of one agent's receipts; ``amount_minor`` is that of each."""
        cash = {"subscriber": SUBSCRIBER, "amount_minor": amount_minor, "taken_at": "2026-01-01T10:00:00Z"}
        body = {"receipts": [{"receipt": receipt, **cash} for receipt in receipts]}
        return requests.post(f"{self.url(at)}/agents/agent-1/receipts", json=body, timeout=10)

    def give_back(self, payment_id: str, key: str, at: str = "edge") -> requests.Response:
        url = f"{self.url(at)}/payments/{payment_id}/refunds"
        return requests.post(url, json={}, headers={"Idempotency-Key": key}, timeout=10)

    def change_mode(self, mode: str) -> None:
        requests.put(f"{self.url('edge')}/ops/mode", json={"mode": mode}, timeout=15).raise_for_status()

    def debit(self, subscriber: int, amount_minor: int, key: str) -> requests.Response:
        body = {"type": "event", "subscriber": subscriber, "amount_minor": amount_minor, "service": "content"}
        url = f"{self.url('edge')}/credit-control"
        return requests.post(url, json=body, headers={"Idempotency-Key": key}, timeout=10)

    def balance(self, subscriber: int) -> int:
        url = f"{self.url('edge')}/accounts/{subscriber}/balance"
        return int(requests.get(url, timeout=5).json()["balance_minor"])

    def later(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(call, *args)

    def count(self, sql: str, *args: Any) -> Any:
        row = self.database.execute(sql, args).fetchone()
        assert row is not None
        return row[0]

    def state(self, key: str) -> str | None:
        row = self.database.execute("select state from payments.payment where key = %s", [key]).fetchone()
        return row[0] if row else None

    def captured(self, key: str, event: str = "capture") -> list[int]:
        """Amounts captured (or refunded) at any PSP under the client's key, by the witnesses' own logs."""
        lines = []
        for name in ("psp-a", "psp-b"):
            text = requests.get(f"{self.url(name)}/log", timeout=5).text
            lines += [json.loads(line) for line in text.splitlines()]
        return [e["amount_minor"] for e in lines if e["event"] == event and e["merchant_reference"] == key]

    def credited(self, key: str, kind: str = "topup") -> list[int]:
        sql = """select p.amount_minor
                 from charging.posting p join charging.transaction t on t.id = transaction_id
                 where t.kind = %s and t.key = %s and p.account_id = %s"""
        rows = self.database.execute(sql, [kind, key, f"sub:{SUBSCRIBER}:main"]).fetchall()
        return [row[0] for row in rows]

    def all_events_applied(self) -> bool:
        waiting = self.count("select count(*) from payments.outbox where sent_at is null")
        missing = self.count(
            """select count(*) from payments.outbox o
               where subject in ('payment.settled', 'payment.refunded') and not exists
               (select from charging.inbox i where i.event_id = o.event_id)"""
        )
        return bool(waiting == 0 and missing == 0)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for name in self.children:
            self.signal(name, signal.SIGCONT)
        self.spawner.close()
        self.database.close()


def impatient_database(hosts: str, role: str = "payments") -> Database:
    """A pool as the services have, with shorter limits."""
    url = f"postgresql://{role}@{hosts}/billing?target_session_attrs=read-write"
    limits = Limits(size=2, checkout=1.0, connect=1.0, command=1.0)
    return Database(url, service="test", metrics=Metrics(), log=Log("test"), limits=limits)
