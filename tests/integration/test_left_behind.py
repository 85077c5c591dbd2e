"""kill -9 of the harness, in each phase of a run: nothing may be left after five seconds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.integration.harness_run import (
    ROOT,
    abandoned_memory,
    command,
    listening_ports,
    processes_of,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

# A line of the progress by which a phase is known, and how long to wait for it.
PHASES = {
    "deploying": r"deploying",
    "steady": r"steady",
    "fault": r"injected",
    "recovery": r"recovery: ",
    "settling": r"settling",
    "collecting": r"collecting",
}
QUICK = ("--set", "steady=2s", "--set", "faults.0.for=3s", "--set", "recovered=1s")
EXPERIMENT = ("experiments/psp-replies-lost.yaml", *QUICK)
# A target that is up within a second, for the phases in which the stack has nothing else than in others.
SMALL = ("tests/integration/targets/standstill.yaml", *QUICK)
ON_SMALL = ("steady", "recovery", "settling")


class Watched:
    """A run in a session of its own, whose progress is read line by line."""

    def __init__(self, reports: Path, words: Sequence[str] = EXPERIMENT, runtime: str = "process") -> None:
        """``words``: what is said after ``ledgerquake run``."""
        self.process = subprocess.Popen(
            command(*words, reports=reports, runtime=runtime),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def saw(self, pattern: str) -> re.Match[str] | None:
        return next((m for line in list(self.lines) if (m := re.search(pattern, line))), None)

    def drained(self) -> None:
        """Once it has ended: everything it said is in ``lines``."""
        self._thread.join(10)

    @property
    def run_id(self) -> str:
        found = self.saw(r"\brun (\d{8}-\d{6}-\S+?),")
        assert found, "".join(self.lines)
        return found[1]


@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_left_after_kill_9(phase: str, tmp_path: Path) -> None:
    memory = abandoned_memory()
    run = Watched(tmp_path, SMALL if phase in ON_SMALL else EXPERIMENT)
    try:
        assert wait_until(lambda: run.saw(PHASES[phase]), 90), "".join(run.lines)
        run_id = run.run_id
        family = [run.process.pid, *(p.pid for p in psutil.Process(run.process.pid).children(recursive=True))]
        ports = listening_ports(family)
    finally:
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
    scratch = Path(tempfile.gettempdir()) / f"ledgerquake-{os.getuid()}" / run_id

    def clean() -> bool:
        return not processes_of(run_id) and not scratch.exists() and abandoned_memory() <= memory

    assert wait_until(clean, 5), (processes_of(run_id), scratch.exists(), abandoned_memory() - memory)
    still = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert not ports & still
    if phase != "deploying":
        assert ports, "the run had ports open when it was killed"


def test_ctrl_c_heals_removes_and_exits_130(tmp_path: Path) -> None:
    run = Watched(tmp_path)
    try:
        assert wait_until(lambda: run.saw(PHASES["fault"]), 90), "".join(run.lines)
        run_id = run.run_id
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(30) == 130, "".join(run.lines)
    finally:
        if run.process.poll() is None:
            run.process.kill()
    assert not processes_of(run_id)
    assert (tmp_path / run_id / "verdict.json").exists(), "an aborted run still says what it saw"
