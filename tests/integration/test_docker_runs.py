"""Whole runs in Docker, through the command line: the healthy stack passes, a broken variant is convicted,
faults that only Docker has are proved, and nothing is left on the engine.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.evidence.folder import RunFolder
from harness.target.docker.labels import RUN
from harness.target.docker.sweep import things
from harness.target.folder import load_target
from tests.docker_here import docker_here, has_images
from tests.integration.harness_run import ROOT, Finished, ledgerquake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTLE_SOON = ("--set", "settle_within=10s")  # what the broken variant did is never mended
SHORT = ("--set", "steady=5s", "--set", "recovered=4s")
# Limits are proved, and shown to be proved by nothing else, on a small target: see test_faults_for_real.
NEEDS_DOCKER = {"payments-unplugged": "take a service off its networks", "charging-throttled": "limit"}


def in_docker(experiment: str, reports: Path, *more: str) -> Finished:
    """The run; afterwards nothing may carry its label."""
    docker = docker_here()
    has_images(load_target(ROOT / "targets" / "billing"))
    done = ledgerquake(
        f"experiments/{experiment}.yaml", "--seed", "7", *more, reports=reports, runtime="docker"
    )
    assert done.folder is not None, done.stderr
    assert not [str(thing) for thing in things(docker, f"{RUN}={done.folder.name}")]
    return done


def assert_passed(done: Finished) -> None:
    """Every fault with its proof, every invariant that applies with something that it checked."""
    assert done.code == ExitCode.PASS, done.reasons()
    assert done.verdict is not None and done.verdict["faults"]
    assert all(fault["proved"] for fault in done.verdict["faults"])
    judged = {row["id"]: row["checked"] for row in done.verdict["invariants"] if row["verdict"] == "pass"}
    assert judged and all(count > 0 for count in judged.values()), judged
    assert {"PAY1", "PAY3", "PAY4", "LED1", "LED3"} <= judged.keys()


def test_the_healthy_stack_passes_and_the_report_says_where_it_ran(tmp_path: Path) -> None:
    done = in_docker("db-primary-crash", tmp_path)
    assert_passed(done)
    assert done.folder is not None
    environment = RunFolder.open(done.folder).read_environment()
    assert environment.runtime == "docker"
    assert environment.versions["docker"].startswith(docker_here().version)
    assert re.fullmatch("sha256:[0-9a-f]{64}", environment.versions["image ledgerquake/billing:dev"])
    assert environment.toxiproxy == environment.versions["toxiproxy"] != ""


def test_a_broken_variant_is_convicted(tmp_path: Path) -> None:
    done = in_docker("psp-replies-lost", tmp_path, "--mutant", "retry-without-key", *SHORT, *SETTLE_SOON)
    assert done.code == ExitCode.FAIL, done.reasons()
    row = done.invariant("PAY4")
    assert row["verdict"] == "fail" and row["violations"] > 0
    assert row["examples"][0]["timeline"], "a counter-example tells its subject's story"


def test_a_service_that_is_off_its_networks_is_proved(tmp_path: Path) -> None:
    assert_passed(in_docker("payments-unplugged", tmp_path, *SHORT))


@pytest.mark.parametrize("experiment", NEEDS_DOCKER)
def test_processes_refuse_them_before_anything_is_started(experiment: str, tmp_path: Path) -> None:
    done = ledgerquake(f"experiments/{experiment}.yaml", reports=tmp_path)
    assert (done.code, done.folder) == (ExitCode.BAD_INPUT, None)
    assert NEEDS_DOCKER[experiment] in done.stderr and "--runtime docker" in done.stderr
