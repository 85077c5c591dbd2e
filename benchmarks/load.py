"""What the load generator costs, against bare Locust, and how well it keeps its schedule.

The cost is processor time per request of the generating process, which a busy machine blurs least,
as the median of interleaved runs. Aims: the recorder under 5 % of bare Locust; operations begun
within 10 ms of their instant (99th percentile) at 300/s.

Lag depends on when the system lets the generator run. Beside each run a control that does nothing
but wake at fixed instants says how late this machine was by itself; all runs are reported, none is
picked, and where the control is late too, the figure speaks of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from harness.evidence.model import LoadSummary
from harness.load.driver import LoadDriver
from harness.load.figures import percentile
from harness.plan import LoadPlan, RateSegment
from harness.spawn import LocalSpawner

REPO = Path(__file__).resolve().parent.parent
ROUNDS = 5
ROUND_S = 2.0
RATE_PER_S = 300.0
LAG_RUNS = 5
LAG_S = 6.0
CONTROL_S = 0.002
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


class Control:
    """Wakes at fixed instants, open loop: an instant that a stall swallowed counts with its lateness."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._late_ms: list[float] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            due += CONTROL_S
            time.sleep(max(0.0, due - time.monotonic()))
            self._late_ms.append((time.monotonic() - due) * 1e3)

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def p99_ms(self) -> float:
        return percentile(sorted(self._late_ms), 0.99) or 0.0


def lag_run(url: str, folder: Path) -> tuple[LoadSummary, float]:
    """One run at the rate, and how late the control was meanwhile (99th percentile, ms)."""
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
        with Control() as control:
            while driver.alive():
                time.sleep(0.1)
        return driver.stop(), control.p99_ms()
    finally:
        spawner.close()


def measure_lag(url: str, folder: Path) -> dict[str, Any]:
    runs = [lag_run(url, folder) for _ in range(LAG_RUNS)]
    lags = [summary.lag_p99_ms for summary, _ in runs]
    return {
        "rate_per_s": RATE_PER_S,
        "lag_p99_ms_median": median(lags),
        "lag_p99_ms_worst": max(lags),
        "lag_p99_ms_runs": lags,
        "control_p99_ms_runs": [round(control_ms, 1) for _, control_ms in runs],
        "sent_share": min(summary.sent / summary.scheduled for summary, _ in runs),
        "recorded_share": min(summary.recorded / summary.sent for summary, _ in runs),
    }


def measure() -> dict[str, Any]:
    """Ratios of processor time per request against bare Locust; lag in milliseconds."""
    with server() as url, tempfile.TemporaryDirectory() as folder:
        return measure_cost(url, Path(folder)) | measure_lag(url, Path(folder))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
