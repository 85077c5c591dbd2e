"""Signals become a flag that every wait looks at, so that healing and clean-up always run.

The first SIGINT or SIGTERM asks for an orderly end: heal, collect, tear down, exit 130. A second one
ends the process at once; the supervisor then removes what is left.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from harness.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Context manager for the main thread; elsewhere (a test's thread) signals are left alone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stop = threading.Event()
        self._old: dict[int, object] = {}
        self.reason: str | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._old[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            os._exit(ExitCode.ABORTED)
        self.reason = f"stopped by {signal.Signals(number).name}"
        self._stop.set()
        self._say(f"{self.reason}: healing and removing everything; once more ends it at once")

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._stop.set()

    def stopping(self) -> bool:
        return self._stop.is_set()
