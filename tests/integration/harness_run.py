"""Running the command as a person would, for the tests of whole runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """What came of a run; ``verdict`` None when it gave none."""

    code: int
    verdict: dict[str, Any] | None
    stderr: str
    folder: Path | None

    def invariant(self, id: str) -> dict[str, Any]:
        assert self.verdict is not None, self.stderr
        return next(row for row in self.verdict["invariants"] if row["id"] == id)

    def reasons(self) -> str:
        return "\n".join(self.verdict["reasons"]) if self.verdict else self.stderr


def ledgerquake(
    *args: str,
    reports: Path,
    runtime: str = "process",
    env: dict[str, str] | None = None,
    timeout_s: float = 280,
) -> Finished:
    """``ledgerquake run`` to its end."""
    done = subprocess.run(
        command(*args, reports=reports, runtime=runtime),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    folders = sorted(path for path in reports.iterdir() if path.is_dir()) if reports.exists() else []
    verdict = None
    if folders and (folders[-1] / "verdict.json").exists():
        verdict = json.loads((folders[-1] / "verdict.json").read_text())
    return Finished(done.returncode, verdict, done.stderr, folders[-1] if folders else None)


def command(*args: str, reports: Path, runtime: str = "process") -> list[str]:
    """The runtime is named: what a test looks at must not depend on whether Docker is here."""
    words = [*args, "--runtime", runtime, "--reports", str(reports)]
    return [sys.executable, "-m", "harness.cli", "run", *words]


def processes_of(run_id: str) -> list[str]:
    """What still carries the run's id in its environment or on its command line."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LEDGERQUAKE_RUN") == run_id or run_id in " ".join(process.cmdline()):
                left.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return left


def listening_ports(pids: Iterable[int]) -> set[int]:
    wanted = set(pids)
    return {
        c.laddr.port
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.pid in wanted
    }


def abandoned_memory() -> set[str]:
    """Shared memory of which no process is left: System V segments, and PostgreSQL's files in /dev/shm."""
    header, *rows = Path("/proc/sysvipc/shm").read_text().splitlines()
    names = header.split()
    segments = [dict(zip(names, row.split(), strict=True)) for row in rows]
    return {
        *(f"segment {one['shmid']}" for one in segments if one["nattch"] == "0"),
        *(str(path) for path in Path("/dev/shm").glob("PostgreSQL.*")),
    }


def wait_until(condition: Any, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())
