"""Every kind of fault that a small target allows, carried out for real, in each runtime that can.

Each one three times over: as it is (proved, healed, and all is whole), without an effect, and undone
before its time; the last two must not be proved. ``switchover`` needs a database pair: the experiments of
the reference target carry it out. ``maintenance`` and ``lockdown`` need an operating mode, and nothing of a
runtime: ``tests/unit/fault/test_operations.py`` carries them out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.evidence.model import FaultRecord
from harness.experiment.vocabulary import ABILITIES
from harness.fault.base import Context
from harness.fault.carry_out import carry_out
from harness.fault.healing import heal
from harness.fault.registry import FAULTS, make_fault
from harness.load.driver import LoadDriver
from harness.out_of_band import ask
from harness.plan import LoadPlan, PlannedFault, RateSegment
from harness.run.journal import Journal
from harness.run.runner import arrivals_per_s
from tests.conformance.runtime.conftest import GROUPED, Deployed, come_up, new_run_id

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    fault: str
    params: dict[str, Any]
    for_s: float | None
    busy: str = ""  # what the store is asked for all the time meanwhile, so that a limit is felt


EDGE = ["front", "store"]
CASES = {
    "partition, silent": Case("partition", {"between": EDGE}, 2.2),
    "partition, replies lost": Case("partition", {"between": EDGE, "direction": "from"}, 2.2),
    "partition, refused": Case("partition", {"between": EDGE, "mode": "reject"}, 2.2),
    "latency": Case("latency", {"links": "front->store", "latency": "150ms", "vary": "30ms"}, 2.2),
    "reset": Case("reset", {"links": "front->store"}, 2.2),
    "partition, unplugged": Case("partition", {"between": ["front", "*"], "mode": "disconnect"}, 3.0),
    "cpu": Case("cpu", {"service": "store", "limit": 0.05}, 3.0, busy="ready"),
    "memory": Case("memory", {"service": "store", "limit": "24MiB"}, 4.0, busy=f"note/{'n' * 30_000}"),
    "crash": Case("crash", {"service": "store"}, 1.5),
    "crash of a role": Case("crash", {"service": "leader"}, 1.0),
    "pause": Case("pause", {"service": "store"}, 1.2),
    "restart": Case("restart", {"service": "store"}, None),
    "rolling restart": Case("rolling_restart", {"services": ["store", "back"]}, None),
    "bad configuration": Case("bad_config", {"service": "store", "environment": {"WELL": "no"}}, 3.0),
}
UNDONE_EARLY = {  # after how long, seconds: once it has been seen, and with time to be undone
    "partition, silent": 1.85,
    "partition, refused": 1.85,
    "partition, unplugged": 2.2,
    "cpu": 2.2,
    "crash": 0.5,
    "pause": 1.0,
    "bad configuration": 1.5,
}
NOT_HERE = {"switchover", "maintenance", "lockdown"}


class WithoutEffect:
    """A runtime or a link layer that takes every order to break something and does nothing."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        if name in ("kill", "pause", "start", "set_enabled", "add_toxic", "unplug", "set_limits"):
            return lambda *_: None
        return (lambda *_: 0) if name == "stop" else getattr(self._real, name)


@pytest.fixture(scope="module", params=GROUPED)
def tiny(request: pytest.FixtureRequest) -> Iterator[Deployed]:
    with ExitStack() as undo:
        yield come_up(undo, request.param, new_run_id())


@pytest.fixture
def ready(tiny: Deployed) -> Iterator[Deployed]:
    """A client that uses its link, and a holder of the role; whole again afterwards."""
    assert tiny.get("front", "hold")[0] == 200 and tiny.get("front", "be/yes")[0] == 200
    yield tiny
    tiny.runtime.wait_ready(list(tiny.runtime.spec.services), 10)
    states = [tiny.links.state(name) for name in tiny.links.names()]
    assert all(state.enabled and not state.toxics for state in states)
    assert tiny.get("front", "relay")[0] == 200
    assert tiny.runtime.deaths() == ()


def context_of(tiny: Deployed, **changes: Any) -> Context:
    parts: dict[str, Any] = {"runtime": tiny.runtime, "links": tiny.links, **changes}
    return Context(
        spec=tiny.runtime.spec,
        say=print,
        stopping=lambda: False,
        **{"arrivals_per_s": lambda a_ns, b_ns: None, **parts},
    )


def run(
    case: Case, context: Context, folder: Path, on_change: Callable[[str, str], None] = lambda *_: None
) -> FaultRecord:
    """Carry it out with a journal on disk, which has nothing open at the end."""
    planned = PlannedFault(id="f1", fault=case.fault, at_s=0.0, until_s=case.for_s, params=case.params)
    journal = Journal(folder / "journal.jsonl")
    with busy(context, case.busy):
        record = carry_out(make_fault(planned, context), planned, context, journal, on_change)
    assert (record.error, record.heal_error) == (None, None)
    assert journal.pending() == [] and record.healed_ns is not None
    journal.close()
    return record


@contextmanager
def busy(context: Context, path: str) -> Iterator[None]:
    """Four callers who ask the store for this, and again."""
    over = threading.Event()
    url = f"http://{context.runtime.address('store', 8080)}/{path}"

    def call() -> None:
        while path and not over.is_set():
            try:
                ask("GET", url, timeout_s=1)
            except requests.RequestException:
                time.sleep(0.05)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    yield
    over.set()
    for caller in callers:
        caller.join()


@pytest.fixture
def can(request: pytest.FixtureRequest, tiny: Deployed) -> None:
    """Skips a case that is beyond the runtime: refused before anything starts, as its own test shows."""
    named = request.node.callspec.params
    case = named["case"] if "case" in named else CASES[named["name"]]
    kind = FAULTS[case.fault]
    for ability in kind.needs(kind.Params.model_validate(case.params)) - tiny.runtime.abilities:
        pytest.skip(f"the {tiny.runtime.name} runtime cannot {ABILITIES[ability]}")


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_proved_healed_and_all_is_whole(case: Case, ready: Deployed, tmp_path: Path) -> None:
    record = run(case, context_of(ready), tmp_path)
    assert record.proof.proved, record.proof.text
    assert record.touches == (("front",) if "leader" in case.params.values() else record.touches)


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_without_its_effect_it_is_not_proved(case: Case, ready: Deployed, tmp_path: Path) -> None:
    context = context_of(ready, runtime=WithoutEffect(ready.runtime), links=WithoutEffect(ready.links))
    record = run(case, context, tmp_path)
    assert not record.proof.proved, record.proof.text


@pytest.mark.usefixtures("can")
@pytest.mark.parametrize("name", UNDONE_EARLY)
def test_undone_before_its_time_it_is_not_proved(name: str, ready: Deployed, tmp_path: Path) -> None:
    """What was seen at its start is no proof that it lasted."""
    case, context = CASES[name], context_of(ready)
    planned = PlannedFault(id="f1", fault=case.fault, at_s=0.0, until_s=None, params=case.params)
    own = make_fault(planned, context).healings()
    early = threading.Timer(
        UNDONE_EARLY[name], lambda: [heal(each, ready.runtime, ready.links) for each in own]
    )
    record = run(case, context, tmp_path, lambda _, state: early.start() if state == "injected" else None)
    early.join()
    assert not record.proof.proved, record.proof.text
    assert "to the end" in record.proof.text or "before it was healed" in record.proof.text


LOCUSTFILE = """
from harness.load.workload import Op, Workload, operation

class Relays(Workload):
    @operation("relay")
    def relay(self, op: Op) -> None:
        op.request("GET", "/ready")
"""
SURGES_AT_S, SURGE_S = 8.0, 3.0


@pytest.fixture
def driver(tiny: Deployed, tmp_path: Path) -> Iterator[LoadDriver]:
    (tmp_path / "locustfile.py").write_text(LOCUSTFILE)
    rates = {0.0: 10.0, SURGES_AT_S: 30.0, SURGES_AT_S + SURGE_S: 10.0}
    plan = LoadPlan(
        seed=3,
        arrivals="constant",
        segments=tuple(RateSegment(at_s=at_s, rate_per_s=rate) for at_s, rate in rates.items()),
        mix={"relay": 1},
        subscribers=5,
        max_duration_s=SURGES_AT_S + SURGE_S + 3,
    )
    driver = LoadDriver(
        plan,
        host_url=f"http://{tiny.runtime.link('client->front').listen}",
        locustfile=tmp_path / "locustfile.py",
        spawner=tiny.supervisor,
        folder=tmp_path / "load",
    )
    yield driver
    driver.stop()


def test_surge_is_proved_by_arrivals_and_not_without_them(
    tiny: Deployed, driver: LoadDriver, tmp_path: Path
) -> None:
    context = context_of(tiny, arrivals_per_s=lambda a_ns, b_ns: arrivals_per_s(driver, a_ns, b_ns))
    surge = Case("surge", {"factor": 3.0}, SURGE_S)
    t0_ns = driver.start()

    def carry_out_at(at_s: float) -> FaultRecord:
        time.sleep(max(0.0, t0_ns / 1e9 + at_s - time.time()))
        return run(surge, context, tmp_path)

    flat = carry_out_at(SURGES_AT_S - SURGE_S - 1.6)
    risen = carry_out_at(SURGES_AT_S)
    assert risen.proof.proved, risen.proof.text
    assert not flat.proof.proved, flat.proof.text


def test_every_kind_of_fault_is_carried_out_somewhere() -> None:
    assert {case.fault for case in CASES.values()} | {"surge"} | NOT_HERE == set(FAULTS)
