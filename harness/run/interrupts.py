"""Signals become a flag that every wait looks at, so that healing and clean-up always run.

The first SIGINT or SIGTERM asks for an orderly end: heal, collect, tear down, exit 130. A second one
ends the process at once; the supervisor then removes what is left.

A signal's handler interrupts the main thread anywhere, also where it holds a lock. So the handler only
sets attributes, and what is to be said is said by a thread of its own.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from harness.errors import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_S = 0.5  # GNU timeout signals its child and then the whole group: that is one wish, not two
LOOK_S = 0.05


class Interrupts:
    """Context manager for the main thread; elsewhere (a test's thread) signals are left alone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stopping = False
        self._signalled_s: float | None = None
        self._over = False
        self._herald = threading.Thread(target=self._tell, name="interrupts", daemon=True)
        self._old: dict[int, object] = {}
        self.reason: str | None = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._herald.start()
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
        self._over = True
        if self._herald.ident is not None:
            self._herald.join()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Takes no lock and prints nothing: see above."""
        now_s = time.monotonic()
        if self._signalled_s is None:
            self._signalled_s = now_s
            self.reason = f"stopped by {signal.Signals(number).name}"
            self._stopping = True
        elif now_s - self._signalled_s > SAME_S:
            os._exit(ExitCode.ABORTED)

    def _tell(self) -> None:
        while not self._over:
            if self.signalled:
                self._say(f"{self.reason}: healing and removing everything; once more ends it at once")
                return
            time.sleep(LOOK_S)

    @property
    def signalled(self) -> bool:
        """Whether somebody outside asked for the end, rather than ``stop``."""
        return self._signalled_s is not None

    def stop(self, reason: str) -> None:
        """The run itself cannot go on: whoever waits wakes up."""
        self.reason = self.reason or reason
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping
