"""The reference stack under 300 mixed operations a second, with load generator and database on one machine.

The peer, in the same run: the same mix at a quarter of the rate. What grows by more than the rate does is
queueing. A run goes through everything that any run goes through, so its invariants are judged as well.
``cpu_s``: processor seconds by part of the system while load ran, the largest first: where to look next.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import psutil

from benchmarks.overhead import start_run

EXPERIMENT = Path(__file__).with_name("mixed.yaml")
RATE, LENGTH_S = 300, 60
PEER_RATE, PEER_LENGTH_S = 75, 20
WARM_UP_S = 5
SAMPLE_S = 0.5


def one_run(reports: Path, rate: int, length_s: int) -> dict[str, Any]:
    """Latency in ms after a warm-up, by function and over all, verdict, and processor seconds by part."""
    settings = ["--set", f"load.rate={rate}/s", "--set", f"steady={length_s}s"]
    process = start_run(EXPERIMENT, reports, *settings)
    used = ProcessorTime(process.pid)
    process.wait()
    folder = next(reports.iterdir())
    verdict = json.loads((folder / "verdict.json").read_text())
    return {
        **latencies(folder / "evidence" / "operations.parquet"),
        "verdict": verdict["verdict"],
        "reasons": verdict["reasons"],
        "invariants": dict(Counter(one["verdict"] for one in verdict["invariants"])),
        "violated": [one["id"] for one in verdict["invariants"] if one["verdict"] == "fail"],
        "cpu_s": used.stop(),
    }


def latencies(operations: Path) -> dict[str, Any]:
    """From intended times, without the first seconds, in which everybody connects."""
    rows = duckdb.execute(
        f"""
        with o as (
          select kind, outcome, (completed_ns - intended_ns) / 1e6 as ms,
                 intended_ns - min(intended_ns) over () > {WARM_UP_S} * 1e9 as warm
          from read_parquet('{operations}'))
        select coalesce(kind, 'all') as kind, count(*), count(*) filter (outcome <> 'ok'),
               round(quantile_cont(ms, 0.5), 1), round(quantile_cont(ms, 0.99), 1)
        from o where warm group by grouping sets ((), (kind)) order by kind <> 'all', kind
        """
    ).fetchall()
    names = ("operations", "not_ok", "p50_ms", "p99_ms")
    table = {kind: dict(zip(names, figures, strict=True)) for kind, *figures in rows}
    return {**table.pop("all"), "by_kind": {kind: one["p99_ms"] for kind, one in table.items()}}


class ProcessorTime:
    """Processor seconds of all descendants of a process, by what they are."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[int, tuple[str, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, float]:
        self._stop.set()
        self._thread.join()
        total: Counter[str] = Counter()
        for part, seconds in self._seen.values():
            total[part] += seconds
        return {part: round(seconds, 1) for part, seconds in total.most_common(14)}

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    self._seen[process.pid] = (part_of(process.cmdline()), times.user + times.system)
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue


def part_of(command: list[str]) -> str:
    """A short name of what a process is."""
    line = " ".join(command)
    if "postgres" in line:
        return "postgres"
    for name in ("toxiproxy", "nats-server", "etcd", "patroni", "harness.load.child"):
        if name in line:
            return name
    modules = [word for before, word in pairwise(command) if before == "-m"]
    return modules[0] if modules else Path(command[0]).name if command else "?"


def measure() -> dict[str, Any]:
    """Both runs, and p99 at the full rate over that at the peer's."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        full = one_run(Path(one), RATE, LENGTH_S)
        peer = one_run(Path(other), PEER_RATE, PEER_LENGTH_S)
    return {
        f"at_{RATE}_per_s": full,
        f"at_{PEER_RATE}_per_s": peer,
        "p99_ratio": round(full["p99_ms"] / peer["p99_ms"], 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
