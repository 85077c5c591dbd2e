"""The mutants really have the bug that they claim, and the healthy stack has not."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from harness.experiment.target import Mutant
from tests.integration.billing_processes import Launcher, Muffler, Process, eventually

MUTANTS = Path(__file__).parents[2] / "targets" / "billing" / "mutants"
HEALTHY = "billing.payments"


def top_up(payments: Process, key: str) -> requests.Response:
    return requests.post(
        f"{payments.url}/topups",
        json={"subscriber": 7, "amount_minor": 500},
        headers={"Idempotency-Key": key},
        timeout=15,
    )


def start_payments(launch: Launcher, module: str, psp_a_url: str, psp_b: Process) -> Process:
    return launch(module, role="payments", PSP_A_URL=psp_a_url, PSP_B_URL=psp_b.url)


@pytest.mark.parametrize(
    ("module", "twice"), [(HEALTHY, False), ("mutants.retry_without_key", True)], ids=["healthy", "mutant"]
)
def test_a_lost_reply_is_a_second_charge_only_without_a_stable_key(
    launch: Launcher, module: str, twice: bool
) -> None:
    psps = [launch("witnesses.psp", PSP_NAME=name) for name in ("psp-a", "psp-b")]
    muffler = Muffler(int(psps[0].url.rpartition(":")[2]))
    payments = start_payments(launch, module, f"http://127.0.0.1:{muffler.port}", psps[1])
    assert top_up(payments, f"before-{uuid.uuid4()}").status_code == 201
    key = f"lost-{uuid.uuid4()}"

    def captures() -> list[dict[str, Any]]:
        lines = [line for psp in psps for line in psp.lines()]
        return [line for line in lines if line["event"] == "capture" and line["merchant_reference"] == key]

    muffler.mute = True
    paying = threading.Thread(target=top_up, args=(payments, key))
    paying.start()
    eventually("the PSP has captured, unheard", captures)
    muffler.mute = False
    paying.join()
    muffler.close()
    assert (len(captures()) > 1) is twice


@pytest.mark.parametrize(
    ("module", "kept"), [(HEALTHY, True), ("mutants.ack_before_commit", False)], ids=["healthy", "mutant"]
)
def test_an_acknowledged_payment_outlives_its_process_only_when_committed_first(
    launch: Launcher, rows: Callable[..., list[Any]], module: str, kept: bool
) -> None:
    psps = [launch("witnesses.psp", PSP_NAME=name) for name in ("psp-a", "psp-b")]
    payments = start_payments(launch, module, psps[0].url, psps[1])
    state = "select state from payments.payment where key = %s"
    settled = f"first-{uuid.uuid4()}"
    assert top_up(payments, settled).json()["status"] == "settled"
    assert top_up(payments, settled).json()["status"] == "settled"  # the replay, too
    eventually("in the end even the mutant writes it down", lambda: rows(state, settled) == [("settled",)])
    last = f"last-{uuid.uuid4()}"
    assert top_up(payments, last).status_code == 201
    payments.kill()
    assert rows(state, last) == ([("settled",)] if kept else [])
    assert [line["event"] for line in psps[0].lines()] == ["capture", "capture"]


@pytest.mark.parametrize("file", sorted(MUTANTS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_mutant_says_what_it_breaks(file: Path) -> None:
    mutant = Mutant.model_validate(yaml.safe_load(file.read_text()))
    assert mutant.name == file.stem
    assert mutant.process == f"python -m mutants.{file.stem.replace('-', '_')}"
    assert (MUTANTS / f"{file.stem.replace('-', '_')}.py").exists()
