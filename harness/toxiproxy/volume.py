"""Many harmless requests on one connection: enough bytes to see a limit, a rate or slices.

The canary's big sister. Bounded: at most ``MAX_REQUESTS`` requests, few of them under way at once.
PostgreSQL takes one question per connection before a login, so it has no volume.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from harness.toxiproxy.canary import DIALECTS, Protocol, connect

MAX_REQUESTS = 2000
UNDER_WAY = 32
PADDING = 2000  # bytes in a header of each HTTP request, where the way up needs volume


@dataclass(frozen=True)
class Volume:
    """What one connection carried. ``elapsed_s``: first byte sent to the last answer, or the end.

    ``pieces``: how many reads the answers came in. ``ended``: the other side closed.
    """

    sent: int
    received: int
    requests: int
    answers: int
    pieces: int
    elapsed_s: float
    ended: bool
    error: str | None = None


def carry(
    listen: str, protocol: Protocol, *, up: int, down: int, timeout_s: float, quiet_s: float = 0.0
) -> Volume:
    """Ask until at least ``up`` bytes were sent and ``down`` received, and all was answered.

    An answer counts when its beginning is there; ``quiet_s`` goes on reading until nothing more came
    for that long (not part of ``elapsed_s``). Stops early at ``MAX_REQUESTS``, at the end of the
    connection, or after ``timeout_s``.
    """
    if protocol not in ("http", "nats"):
        return Volume(0, 0, 0, 0, 0, 0.0, False, f"a {protocol} link takes no volume of harmless requests")
    try:
        held = connect(listen, timeout_s)
    except OSError as error:
        return Volume(0, 0, 0, 0, 0, 0.0, False, str(error))
    with held:
        return _Carrier(held, protocol, up, down).run(timeout_s, quiet_s)


class _Carrier:
    def __init__(self, held: socket.socket, protocol: Protocol, up: int, down: int) -> None:
        dialect = DIALECTS[protocol]
        self._request, self._answer = dialect.request, dialect.answer
        if protocol == "http" and up > 20 * len(self._request):
            self._request = self._request[:-2] + b"X-Padding: " + b"x" * PADDING + b"\r\n\r\n"
        self._held = held
        self._up, self._down = up, down
        self._to_send = b""
        self._tail = b""
        self._last = 0.0
        self._refused = False  # the other side takes no more; what it sent before may still be read
        self.sent = self.received = self.requests = self.answers = self.pieces = 0

    def run(self, timeout_s: float, quiet_s: float) -> Volume:
        self._held.setblocking(False)
        started = time.monotonic()
        ended, error = False, None
        try:
            while not ended and not self._all_done():
                left = started + timeout_s - time.monotonic()
                if left <= 0:
                    error = f"not all was answered within {timeout_s:g} s"
                    break
                ended = self._turn(left)
            self._last = time.monotonic()
            while quiet_s and not ended and self._last < started + timeout_s and self._more_within(quiet_s):
                ended = self._turn(0)
                self._last = time.monotonic()
        except OSError as reset:
            ended, error = True, str(reset)
            self._last = time.monotonic()
        elapsed_s = self._last - started
        return Volume(
            self.sent, self.received, self.requests, self.answers, self.pieces, elapsed_s, ended, error
        )

    def _more_within(self, quiet_s: float) -> bool:
        return bool(select.select([self._held], [], [], quiet_s)[0])

    def _all_done(self) -> bool:
        answered = not self._to_send and self.answers >= self.requests
        return answered and not self._wants_more() and not self._refused

    def _wants_more(self) -> bool:
        unmet = self.sent < self._up or self.received < self._down
        return unmet and self.requests < MAX_REQUESTS and not self._refused

    def _turn(self, left_s: float) -> bool:
        """Send and receive what is possible now; True at the end of the stream."""
        if not self._to_send and self._wants_more() and self.requests - self.answers < UNDER_WAY:
            self._to_send = self._request
            self.requests += 1
        writers = [self._held] if self._to_send else []
        readable, writable, _ = select.select([self._held], writers, [], left_s)
        if writable:
            self._send()
        if not readable:
            return False
        data = self._held.recv(65536)
        self.received += len(data)
        self.pieces += 1
        seen = self._tail + data
        self.answers += seen.count(self._answer)
        keep = len(self._answer) - 1  # an answer's mark may be split, and must not be counted twice
        self._tail = seen[-keep:]
        return not data

    def _send(self) -> None:
        try:
            count = self._held.send(self._to_send)
        except (BrokenPipeError, ConnectionResetError):
            self._refused, self._to_send = True, b""
            return
        self.sent += count
        self._to_send = self._to_send[count:]
