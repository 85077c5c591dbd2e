"""The words for tests of experiments: a small target, the real faults, and one good experiment."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from harness.experiment.loader import check_experiment
from harness.experiment.model import Experiment
from harness.experiment.overrides import apply_overrides
from harness.experiment.settings import with_spelt_settings
from harness.experiment.target import (
    Endpoint,
    Invariant,
    Job,
    Link,
    Measure,
    Mode,
    Moment,
    Role,
    Service,
    Switchover,
    TargetSpec,
)
from harness.experiment.vocabulary import Vocabulary
from harness.experiment.yaml_reader import experiment_error, parse_yaml
from harness.fault.registry import FAULTS

ROOT = Path(__file__).resolve().parents[3]

EDGES = ("client->edge", "edge->payments", "payments->db-1", "payments->db-2", "payments->psp-a")
SETTINGS = {
    "edge": {"FAILURE_HANDLING": "terminate", "PAYMENTS_URL": "http://payments:1"},
    "psp-a": {"PSP_NAME": "psp-a"},
}
SERVICES = ("edge", "payments", "db-1", "db-2", "psp-a")


def make_spec() -> TargetSpec:
    at = Endpoint(port=8080)
    return TargetSpec(
        name="shop",
        folder=".",
        services={
            name: Service(name=name, ready=at, witness=name == "psp-a", environment=SETTINGS.get(name, {}))
            for name in SERVICES
        },
        links={
            edge: Link(name=edge, client=edge.split("->")[0], server=edge.split("->")[1], port=1)
            for edge in EDGES
        },
        roles={"db-primary": Role(members=("db-1", "db-2"), endpoint=at)},
        functions={"payments": ("topup", "topup_replay"), "balance": ("balance",)},
        jobs={"settlement": Job(service="edge", endpoint=at)},
        moments={"half-done": Moment(sql="select true")},
        mode=Mode(service="edge", port=1, set_path="/", status_path="/", announce_path="/", canary_path="/"),
        switchover=Switchover(role="db-primary", candidate_role="db-primary", endpoint=at),
        entry="client->edge",
        max_subscribers=500,
        measures={"notifications.delay": Measure(file="delay.sql")},
        invariants={id: Invariant(id=id, title=id, file=f"{id}.sql") for id in ("PAY1", "PAY2", "LED1")},
    )


VOCABULARY = Vocabulary(faults=FAULTS, target=make_spec())

GOOD = dedent(
    """\
    name: demo
    title: Something breaks
    concerns: [1, 42]
    target: shop
    load:
      rate: 120/s
      mix: {topup: 45, balance: 30}
      subscribers: 300
    settings:
      edge: {FAILURE_HANDLING: continue}
    steady: 10s
    faults:
      - at: 0s
        for: 20s
        fault: crash
        service: db-primary
      - at: 25s
        for: 2s
        fault: partition
        between: [payments, [db-1, db-2]]
        direction: from
        every: 5s
        repeat: 3
        jitter: 500ms
      - {at: 1s, for: 3s, fault: crash, service: edge, when: half-done, within: 9s}
      - {at: 5s, for: 10s, fault: surge, factor: 2}
    jobs:
      - {at: 5s, run: settlement}
    recover_within: 40s
    recovered: 8s
    settle_within: 30s
    expect:
      - payments.success >= 99.9% in steady
      - notifications.delay.p99 <= 10s in recovered
      - payments.recovery <= 35s
      - invariants PAY* LED1 hold
    """
)


def load(text: str = GOOD, *overrides: str) -> Experiment:
    document = apply_overrides(parse_yaml(text, "demo.yaml", experiment_error), overrides)
    return check_experiment(with_spelt_settings(document), VOCABULARY)
