"""Whole runs through the command line, on real parts: what a verdict is worth.

Slow by nature (each deploys the stack). The healthy stack passes, the broken variants are convicted,
and a fault without effect is never counted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.files import load_all
from harness.errors import ExitCode
from harness.plan import make_plan
from harness.run.ground import ProcessGround
from harness.run.runner import Asked, RunResult, run_experiment
from harness.target.process import ProcessRuntime
from harness.toxiproxy.find import find_engine
from harness.toxiproxy.links import LinkLayer
from tests.integration.harness_run import ROOT, ledgerquake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = ["--set", "steady=5s", "--set", "recovered=4s"]
SETTLE_SOON = ["--set", "settle_within=10s"]  # what the broken variant did is never mended


def test_the_healthy_stack_passes_with_every_fault_proved(tmp_path: Path) -> None:
    done = ledgerquake("experiments/db-primary-crash.yaml", "--seed", "7", reports=tmp_path)
    assert done.code == ExitCode.PASS, done.reasons()
    assert done.verdict is not None and done.verdict["verdict"] == "pass"
    assert all(fault["proved"] for fault in done.verdict["faults"])
    checked = {row["id"]: row["checked"] for row in done.verdict["invariants"] if row["verdict"] == "pass"}
    assert checked and all(count > 0 for count in checked.values()), checked
    assert {"PAY1", "PAY3", "PAY4", "LED1", "LED3"} <= checked.keys()


@pytest.mark.parametrize(
    ("mutant", "experiment", "invariant"),
    [
        ("retry-without-key", "psp-replies-lost", "PAY4"),
        ("ack-before-commit", "payments-crash", "PAY1"),
    ],
)
def test_a_broken_variant_is_convicted(mutant: str, experiment: str, invariant: str, tmp_path: Path) -> None:
    done = ledgerquake(
        f"experiments/{experiment}.yaml",
        "--mutant",
        mutant,
        "--seed",
        "11",
        *SHORT,
        *SETTLE_SOON,
        reports=tmp_path,
    )
    assert done.code == ExitCode.FAIL, done.reasons()
    row = done.invariant(invariant)
    assert row["verdict"] == "fail" and row["violations"] > 0
    assert row["examples"][0]["timeline"], "a counter-example tells its subject's story"
    assert done.folder is not None
    assert row["examples"][0]["subject"] in (done.folder / "report.html").read_text()
    assert invariant in done.reasons()


def run_here(experiment: str, reports: Path) -> RunResult:
    """A run inside this process, so that a test can sabotage the harness itself."""
    overrides = [text for text in SHORT if text != "--set"]
    loaded = load_all([str(ROOT / "experiments" / f"{experiment}.yaml")], overrides)[0]
    plan = make_plan(loaded.experiment, loaded.vocabulary, 5)
    ground = ProcessGround(find_engine("auto"))
    asked = Asked(loaded.experiment, loaded.source, loaded.spec, plan, ground, None, reports, "test")
    return run_experiment(asked, Quiet())


class Quiet:
    """Nobody watches."""

    def event(self, text: str) -> None: ...

    def fault(self, id: str, state: str) -> None: ...

    def load(self, second: int, rate: float, ok_percent: float, p99_ms: float) -> None: ...

    def phase(self, name: str, detail: str = "") -> None: ...


def assert_not_proved(result: RunResult) -> None:
    assert result.exit_code == ExitCode.INCONCLUSIVE, result.error
    assert result.verdict is not None
    assert [fault.proved for fault in result.verdict.faults] == [False]
    assert result.verdict.verdict == "inconclusive"


def test_a_service_that_bypasses_its_proxy_makes_the_run_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ProcessRuntime._environment

    def around_the_proxy(self: ProcessRuntime, service, volumes):  # type: ignore[no-untyped-def]
        environment = whole(self, service, volumes)
        if service.name == "payments":
            ends = self.link("payments->psp-a")
            assert str(ends.listen) in environment["PSP_A_URL"]
            environment["PSP_A_URL"] = f"http://{ends.upstream}"
        return environment

    monkeypatch.setattr(ProcessRuntime, "_environment", around_the_proxy)
    result = run_here("psp-replies-lost", tmp_path)
    assert_not_proved(result)
    assert result.verdict is not None
    assert "past the proxy" in result.verdict.faults[0].proof


def test_a_toxic_that_never_arrives_makes_the_run_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinkLayer, "add_toxic", lambda self, name, toxic_name, toxic: None)
    assert_not_proved(run_here("psp-replies-lost", tmp_path))
