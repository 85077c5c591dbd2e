"""Live progress, plain and on a terminal."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from harness.report.progress import Progress


def test_plain_lines_one_per_event_and_load_every_five_seconds() -> None:
    out, now = io.StringIO(), [100.0]
    with Progress(Console(file=out, width=60), plain=True, clock=lambda: now[0]) as progress:
        progress.phase("steady", "10 s before the first fault")
        for second in range(12):
            now[0] = 100.0 + second
            progress.load(second, 120.4, 99.95, 38.2)
        now[0] = 165
        progress.fault("f1-crash", "injected")
        progress.event(
            "[bold]a message[/bold] \x1b[2J of the system, longer than the sixty columns of the console"
        )
        progress.load(71, None, None, None)
    assert out.getvalue().splitlines() == [
        "   0:00 steady: 10 s before the first fault",
        "   0:00 load 120/s, ok 100.0 %, p99 38 ms (second 0)",
        "   0:05 load 120/s, ok 100.0 %, p99 38 ms (second 5)",
        "   0:10 load 120/s, ok 100.0 %, p99 38 ms (second 10)",
        "   1:05 fault f1-crash: injected",
        "   1:05 [bold]a message[/bold] \N{REPLACEMENT CHARACTER}[2J of the system,"
        " longer than the sixty columns of the console",
        "   1:05 load –, ok –, p99 – (second 71)",
    ]


def test_the_panel_shows_phase_load_and_active_faults() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with Progress(console, plain=False) as progress:
        progress.phase("fault", "20 s")
        progress.load(3, 118, 61.5, 2900)
        progress.fault("f1-crash", "injected")
        progress.fault("f2-latency", "injected")
        progress.fault("f2-latency", "healed")
        console.print(progress._panel())
    panel = out.getvalue().rsplit("─" * 80)[-1]
    assert "fault  20 s" in panel
    assert "load 118/s, ok 61.5 %, p99 2,900 ms" in panel
    assert "fault f1-crash: injected" in panel
    assert "f2-latency" not in panel


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.timeout(20)
def test_many_threads_neither_mix_lines_nor_lock_up(plain: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=not plain, color_system=None)
    with Progress(console, plain=plain) as progress:
        if progress._live:
            progress._live._refresh_thread.refresh_per_second = 1000  # type: ignore[union-attr]

        def tell(number: int) -> None:
            for turn in range(100):
                progress.event("x" * 40)
                progress.fault(f"f{number}", f"turn {turn}")

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [line for line in out.getvalue().splitlines() if "xxx" in line]
    assert len(lines) == 400
    assert all(line.endswith(" " + "x" * 40) for line in lines)
