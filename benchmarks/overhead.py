"""What the harness adds to an experiment: time around its windows, and memory of everything together.

Overhead is the wall time of ``ledgerquake run`` less the experiment's own windows (start of load to
end of load). The peer, in the same run: the time that the target's own services take to be ready
(``deploy_s``, of which the database pair is the most), which no harness could avoid. Cold: the page
cache is dropped first, where that is allowed. Memory is the sum of proportional set sizes, in which
shared pages count once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = ROOT / "experiments" / "baseline.yaml"
SAMPLE_S = 0.5


def drop_page_cache() -> bool:
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def start_run(experiment: Path, reports: Path, *options: str) -> subprocess.Popen[bytes]:
    """An experiment in the process runtime, without a word."""
    command = [sys.executable, "-m", "harness.cli", "run", str(experiment), "--runtime", "process"]
    return subprocess.Popen(
        [*command, "--seed", "1", "--reports", str(reports), *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def one_run(reports: Path) -> dict[str, float]:
    """Seconds of overhead, before and after the load, and MiB at the peak."""
    started_ns = time.time_ns()
    process = start_run(EXPERIMENT, reports)
    memory = PeakMemory(process.pid)
    process.wait()
    ended_ns = time.time_ns()
    peak_mib = memory.stop()
    windows = json.loads(next(reports.glob("*/evidence/windows.json")).read_text())
    before_s = (windows["load_started_ns"] - started_ns) / 1e9
    after_s = (ended_ns - windows["load_ended_ns"]) / 1e9
    deploy_s = (windows["ready_ns"] - windows["deploy_started_ns"]) / 1e9
    return {
        "overhead_s": round(before_s + after_s, 2),
        "deploy_s": round(deploy_s, 2),
        "overhead_over_deploy": round((before_s + after_s) / deploy_s, 2),
        "before_load_s": round(before_s, 2),
        "after_load_s": round(after_s, 2),
        "peak_memory_mib": peak_mib,
    }


class PeakMemory:
    """The most that a process and all its descendants held at once; the supervisor is one of them."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return round(self._peak / 2**20, 0)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._peak = max(self._peak, held_by(self._root))


def held_by(root: psutil.Process) -> int:
    """Bytes: the sum of proportional set sizes below ``root``."""
    total = 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return total


def measure() -> dict[str, Any]:
    """Cold and warm overhead in seconds, its ratio to the peer, and the peak of memory in MiB."""
    dropped = drop_page_cache()
    with tempfile.TemporaryDirectory() as cold, tempfile.TemporaryDirectory() as warm:
        first, second = one_run(Path(cold)), one_run(Path(warm))
    return {
        "cold": first,
        "cold_page_cache_dropped": dropped,
        "warm": second,
        "peak_memory_mib": max(first["peak_memory_mib"], second["peak_memory_mib"]),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
