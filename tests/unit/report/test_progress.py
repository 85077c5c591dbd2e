"""Live progress, plain and on a terminal."""

from __future__ import annotations

import io
import threading

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


def test_threads_do_not_mix_their_lines() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), plain=True) as progress:
        threads = [
            threading.Thread(target=lambda: [progress.event("x" * 40) for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {line[8:] for line in out.getvalue().splitlines()} == {"x" * 40}
