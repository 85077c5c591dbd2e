"""A canary ends when it is told to, not only when its time is over."""

from __future__ import annotations

import socket
import threading
import time

from harness.toxiproxy.canary import probe


def test_one_that_waits_gives_up_when_the_run_stops() -> None:
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts in the kernel, answers nothing
        threading.Timer(0.2, stopping.set).start()
        started = time.monotonic()
        canary = probe(f"127.0.0.1:{silent.getsockname()[1]}", "http", 60.0, stopping.is_set)
    assert canary.silent and time.monotonic() - started < 5
