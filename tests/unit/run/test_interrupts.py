"""Signals: in a process of its own, as a terminal or GNU timeout sends them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# The main thread holds the lock of the progress when the signal comes, as it does many times a second.
CHILD = """
import io, sys, time
from rich.console import Console
from harness.report.progress import Progress
from harness.run.interrupts import Interrupts

progress = Progress(Console(file=sys.stderr), plain=True)
with progress, Interrupts(progress.event) as interrupts:
    with progress._lock:
        print("ready", flush=True)
        while not interrupts.stopping():
            time.sleep(0.01)
        time.sleep(0.2)
    print("orderly", interrupts.signalled, interrupts.reason, flush=True)
    time.sleep(float(sys.argv[1]))
print("end", flush=True)
"""


def started(tail_s: float) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tail_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.timeout(30)
def test_a_signal_while_the_progress_is_written_locks_nothing_up() -> None:
    child = started(0.3)
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=10)
    assert out == "orderly True stopped by SIGINT\nend\n"
    assert "stopped by SIGINT: healing and removing everything" in said
    assert child.returncode == 0


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("apart_s", "code"), [(0.05, 0), (0.8, 130)])
def test_two_signals_at_once_are_one_wish_and_a_later_one_ends_it(apart_s: float, code: int) -> None:
    child = started(2.0)
    child.send_signal(signal.SIGTERM)
    time.sleep(apart_s)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == code
