"""What the engine reports while it builds or pulls, with a limit on its silence.

The SDK sets no deadline for these requests, and a socket that says nothing cannot be given one from
outside. So they run in a thread of their own, which is left alone when it is silent for too long: the
engine gives up what nobody listens to when the process ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import Empty, Queue
from typing import Any

from harness.errors import EnvironmentBroken

Event = Mapping[str, Any]
_END = object()


def events(start: Callable[[], Iterable[Event]], what: str, quiet_s: float) -> Iterator[Event]:
    """The engine's reports as they come. Raises what the request raised, and EnvironmentBroken,
    ``cannot <what>``, when nothing comes for ``quiet_s``."""
    came: Queue[object] = Queue()

    def listen() -> None:
        try:
            for event in start():
                came.put(event)
        except Exception as problem:  # told to whoever waits for the events
            came.put(problem)
        else:
            came.put(_END)

    threading.Thread(target=listen, name="engine's progress", daemon=True).start()
    while True:
        try:
            event = came.get(timeout=quiet_s)
        except Empty:
            raise EnvironmentBroken(
                f"cannot {what}: the Docker engine has said nothing for {quiet_s:.0f} s"
            ) from None
        if event is _END:
            return
        if isinstance(event, Exception):
            raise event
        if isinstance(event, Mapping):
            yield event
