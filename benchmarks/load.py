"""What the load generator costs, against bare Locust, and how well it keeps its schedule.

The cost is processor time per request of the generating process, which a busy machine blurs least,
as the median of interleaved runs. Aims: the recorder under 5 % of bare Locust; operations begun
within 10 ms of their instant (99th percentile) at 300/s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from harness.load.driver import LoadDriver
from harness.plan import LoadPlan, RateSegment
from harness.spawn import LocalSpawner

REPO = Path(__file__).resolve().parent.parent
ROUNDS = 5
ROUND_S = 2.0
RATE_PER_S = 300.0
LAG_S = 8.0
MODES = ("bare", "recorded", "whole")
LOCUSTFILE = """
from harness.load.workload import Op, Workload, operation

class Measured(Workload):
    @operation("topup")
    def topup(self, op: Op) -> None:
        op.set_amount(op.amount_minor)
        op.request("POST", "/topups", json={"amount": op.amount_minor}, headers={"Idempotency-Key": op.key})
"""


@contextmanager
def server() -> Iterator[str]:
    """The URL of a fast local server in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.tiny_server"]
    with subprocess.Popen(argv, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()  # the server ends with it


def measure_cost(url: str, folder: Path) -> dict[str, float]:
    runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for _ in range(ROUNDS):
        for mode in MODES:
            argv = [sys.executable, "-m", "benchmarks.load_users", mode, url, str(ROUND_S), str(folder)]
            done = subprocess.run(
                argv, cwd=REPO, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            runs[mode].append(json.loads(done.stdout))
    cpu_us = {mode: median(run["cpu_us"] for run in runs[mode]) for mode in MODES}
    return {
        "bare_cpu_us_per_request": cpu_us["bare"],
        "bare_requests_per_s": median(run["per_s"] for run in runs["bare"]),
        "recorder_cost_ratio": cpu_us["recorded"] / cpu_us["bare"],
        "operation_cost_ratio": cpu_us["whole"] / cpu_us["bare"],
    }


def measure_lag(url: str, folder: Path) -> dict[str, float]:
    plan = LoadPlan(
        seed=1,
        arrivals="poisson",
        segments=(RateSegment(at_s=0, rate_per_s=RATE_PER_S),),
        mix={"topup": 1},
        subscribers=100,
        max_duration_s=LAG_S,
    )
    locustfile = folder / "locustfile.py"
    locustfile.write_text(LOCUSTFILE)
    spawner = LocalSpawner()
    try:
        driver = LoadDriver(
            plan, host_url=url, locustfile=locustfile, spawner=spawner, folder=folder / "load"
        )
        driver.start()
        while driver.alive():
            time.sleep(0.1)
        summary = driver.stop()
    finally:
        spawner.close()
    return {
        "rate_per_s": RATE_PER_S,
        "lag_p99_ms": summary.lag_p99_ms,
        "sent_share": summary.sent / summary.scheduled,
        "recorded_share": summary.recorded / summary.sent,
    }


def measure() -> dict[str, Any]:
    """Ratios of processor time per request against bare Locust; lag in milliseconds."""
    with server() as url, tempfile.TemporaryDirectory() as folder:
        return measure_cost(url, Path(folder)) | measure_lag(url, Path(folder))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
