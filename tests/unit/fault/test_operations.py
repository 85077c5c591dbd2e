"""Faults on the operating mode, carried out against a system in miniature that keeps one, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evidence.healing import Healing
from harness.evidence.model import FaultRecord
from harness.experiment.target import Mode
from harness.fault import operations
from harness.fault.base import Context
from harness.fault.carry_out import carry_out
from harness.fault.healing import heal
from harness.fault.registry import make_fault
from harness.plan import PlannedFault

MODE = Mode(
    service="edge",
    port=80,
    set_path="/mode",
    status_path="/status",
    announce_path="/say",
    canary_path="/pay",
)
LOCKDOWN, MAINTENANCE = ("lockdown", {"reason": "a breach"}), ("maintenance", {"announce": 0.1})
FOR_S = 0.6


class System:
    """What an edge does with its mode. ``down``: how many requests it leaves without a good answer."""

    def __init__(self) -> None:
        self.modes = ["normal"]  # an epoch each
        self.told: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []
        self.down = 0
        self.obeys = True
        self.forgets = False  # goes on letting writes through, whatever it says

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.down > 0:
            self.down -= 1
            return 502, {}
        if (method, path) == ("PUT", MODE.set_path):
            self.told.append(body)
            if self.obeys:
                self.modes.append(body["mode"])
            return 200, self.status()
        if (method, path) == ("GET", MODE.status_path):
            return 200, self.status()
        if (method, path) == ("POST", MODE.announce_path):
            self.announced.append(body)
            return 201, {}
        return (400 if self.modes[-1] == "normal" or self.forgets else 503), {}

    def status(self) -> dict[str, Any]:
        return {"mode": self.modes[-1], "epoch": len(self.modes)}


@pytest.fixture(autouse=True)
def not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "AFTER_S", 0.1)


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def context(system: System) -> Iterator[Context]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            status, said = system.answer(self.command, self.path, body)
            text = json.dumps(said).encode()
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "5")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_PUT = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    yield Context(
        spec=SimpleNamespace(mode=MODE),  # type: ignore[arg-type]
        runtime=SimpleNamespace(address=lambda service, port: address),  # type: ignore[arg-type]
        links=None,  # type: ignore[arg-type]
        say=print,
        arrivals_per_s=lambda a, b: None,
        stopping=lambda: False,
    )
    server.shutdown()
    server.server_close()


class Journal:
    def intend(self, healing: Healing) -> str:
        return healing.action

    def healed(self, id: str) -> None: ...


def run(
    fault: tuple[str, dict[str, Any]], context: Context, meanwhile: Callable[[str], None] = lambda state: None
) -> FaultRecord:
    name, params = fault
    planned = PlannedFault(id="f1", fault=name, at_s=0.0, until_s=FOR_S, params=params)
    return carry_out(
        make_fault(planned, context), planned, context, Journal(), lambda _, state: meanwhile(state)
    )


@pytest.mark.parametrize("fault", [LOCKDOWN, MAINTENANCE], ids=lambda fault: fault[0])
def test_the_mode_is_set_and_set_back(fault: Any, system: System, context: Context) -> None:
    record = run(fault, context)
    assert record.proof.proved, record.proof.text
    assert (record.error, record.heal_error, record.touches) == (None, None, ("edge",))
    assert system.modes == ["normal", fault[0], "normal"]
    assert f"{fault[0]} is epoch 2" in record.proof.text


def test_only_maintenance_is_announced_and_says_when_to_come_again(system: System, context: Context) -> None:
    run(LOCKDOWN, context)
    assert (system.announced, system.told[0]) == ([], {"mode": "lockdown", "reason": "a breach"})
    run(MAINTENANCE, context)
    assert [one["kind"] for one in system.announced] == ["maintenance"]
    assert system.told[2]["retry_after_s"] == 5


@pytest.mark.parametrize("fault", [LOCKDOWN, MAINTENANCE], ids=lambda fault: fault[0])
def test_a_system_that_does_not_obey_proves_nothing(fault: Any, system: System, context: Context) -> None:
    system.obeys = False
    record = run(fault, context)
    assert not record.proof.proved and "did not advance" in record.proof.text


def test_a_mode_that_lets_writes_through_proves_nothing(system: System, context: Context) -> None:
    system.forgets = True
    record = run(LOCKDOWN, context)
    assert not record.proof.proved and "was not refused with 503 and Retry-After at once" in record.proof.text


def test_lifted_before_its_time_it_proves_nothing(system: System, context: Context) -> None:
    planned = PlannedFault(id="f1", fault="lockdown", at_s=0.0, until_s=None)
    own = make_fault(planned, context).healings()
    early = threading.Timer(FOR_S * 0.75, lambda: [heal(one, context.runtime, context.links) for one in own])
    record = run(LOCKDOWN, context, lambda state: early.start() if state == "injected" else None)
    early.join()
    assert not record.proof.proved and "right before it was healed" in record.proof.text


def test_who_is_away_when_the_mode_is_set_is_asked_again(system: System, context: Context) -> None:
    def away(state: str) -> None:
        system.down = 3 if state == "injected" else 0

    record = run(LOCKDOWN, context, away)
    assert record.proof.proved, record.proof.text
    assert system.modes == ["normal", "lockdown", "normal"]


def test_a_system_that_is_not_normal_before_proves_nothing(system: System, context: Context) -> None:
    system.modes.append("maintenance")
    record = run(LOCKDOWN, context)
    assert not record.proof.proved and record.proof.text == "the mode was maintenance before"


def test_a_stop_of_the_run_ends_it_soon_and_sets_the_mode_back(system: System, context: Context) -> None:
    stopped = Context(**{**vars(context), "stopping": lambda: True})
    run(LOCKDOWN, stopped)
    assert system.modes[-1] == "normal"
    run(MAINTENANCE, stopped)
    assert "maintenance" not in system.modes, "it was not closed any more"
