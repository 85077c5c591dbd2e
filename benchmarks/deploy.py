"""From images present to all services ready, and from there to nothing left: Docker against processes.

The peer, in the same run, is the process runtime: the same services, supervisor, proxies and readiness
without an engine, networks and containers. Each is brought up and taken down by the code that a run uses,
without load. Cold: the page cache is dropped first, where that is allowed. Of the warm rounds the middle
one counts; all are told.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.overhead import ROOT, drop_page_cache
from harness.errors import EnvironmentBroken
from harness.experiment.target import TargetSpec
from harness.run.ground import Ground, find_ground
from harness.run.runner import new_run_id
from harness.run.stage import Stage
from harness.target.folder import load_target

TARGET = ROOT / "targets" / "billing"
WARM_ROUNDS = 3


def one_round(spec: TargetSpec, ground: Ground) -> dict[str, float]:
    """Seconds until everything is ready, and until all of it is gone again."""
    with tempfile.TemporaryDirectory() as logs:
        started_s = time.monotonic()
        with Stage(spec, new_run_id("bench"), 1, ground, None, Path(logs), quiet) as stage:
            stage.come_up(lambda: False)
            ready_s = time.monotonic()
        gone_s = time.monotonic()
    return {"ready_s": round(ready_s - started_s, 2), "teardown_s": round(gone_s - ready_s, 2)}


def quiet(line: str) -> None:
    """Nobody watches."""


def rounds(spec: TargetSpec, ground: Ground) -> dict[str, Any]:
    cold = one_round(spec, ground)
    warm = [one_round(spec, ground) for _ in range(WARM_ROUNDS)]
    middle = sorted(warm, key=lambda one: one["ready_s"])[WARM_ROUNDS // 2]
    return {"cold": cold, "warm": middle, "warm_rounds": warm}


def measure() -> dict[str, Any]:
    """Docker's figures, the peer's, and their ratios; ``skipped`` says why there are none."""
    spec = load_target(TARGET)
    processes = find_ground("process", "auto", [spec], say=quiet)
    try:
        docker = find_ground("docker", "auto", [spec], say=quiet)
    except EnvironmentBroken as absent:
        return {"skipped": absent.message}
    dropped = drop_page_cache()
    in_docker = rounds(spec, docker)
    drop_page_cache()
    peer = rounds(spec, processes)
    return {
        "docker": in_docker,
        "processes": peer,
        "cold_page_cache_dropped": dropped,
        "docker_over_processes": {
            when: {key: round(in_docker[when][key] / peer[when][key], 2) for key in ("ready_s", "teardown_s")}
            for when in ("cold", "warm")
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
