"""Whether the engine has been there all the time: containers that end with it were ended by nobody."""

from __future__ import annotations

import threading
from contextlib import suppress

from harness.target.docker.endpoint import Docker, EngineGone, asking

_NEVER = {"type": ["plugin"], "event": ["none"]}


class Watch:
    """Sees an engine that stops, were it only for an instant.

    It asks for events of a kind that there is not: the answer ends when the engine does.
    """

    def __init__(self, docker: Docker) -> None:
        self._url = docker.url
        self._over = False
        self._lost = False
        with asking("listen to the engine's events"):
            self._events = docker.api.events(filters=_NEVER)
        self._listener = threading.Thread(target=self._listen, name="engine's events", daemon=True)
        self._listener.start()

    def check(self) -> None:
        """Raises EngineGone when the engine stopped since."""
        if self._lost:
            raise EngineGone(self._url)

    def close(self) -> None:
        self._over = True
        if self._listener.is_alive():
            with suppress(OSError, AttributeError):  # it ends at this very moment
                self._events.close()

    def _listen(self) -> None:
        for _ in self._events:
            pass
        self._lost = not self._over
