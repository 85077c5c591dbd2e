"""One harmless request through a link, timed: does it connect, is it answered, how does it end?

What is sent, by protocol: ``http`` a ``GET /live`` (any status counts as an answer), ``postgres`` an
SSLRequest (answered by one byte, before anybody logs in), ``nats`` a ``PING`` (answered by ``PONG``
after the server's greeting), ``tcp`` nothing at all: an engine accepts before it dials, so a ``tcp``
canary can be refused or ended, but never answered.

A canary sees the link from outside. It does not see whether a service really uses that link. What
canaries and byte counters prove together is in ``proofs.py``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Protocol = Literal["http", "postgres", "nats", "tcp"]

GIVE_UP_S = 0.1  # how often one that waits asks whether it still should
TCP_LOOK_S = 0.2  # how long a canary without a request waits for the connection to end


@dataclass(frozen=True)
class Canary:
    """What one request met with. ``rtt_ms``, request sent to answer read, only where ``replied``.

    ``ended``: the other side closed (``reset``: by RST) before an answer came. ``request_bytes`` were
    sent and ``reply_bytes`` received, a greeting included.
    """

    connected: bool
    replied: bool = False
    rtt_ms: float | None = None
    reset: bool = False
    refused: bool = False
    ended: bool = False
    error: str | None = None
    request_bytes: int = 0
    reply_bytes: int = 0

    @property
    def silent(self) -> bool:
        """The connection stayed open, and nothing answered."""
        return self.connected and not self.replied and not self.ended


@dataclass(frozen=True)
class Dialect:
    """A request that changes nothing, and what its answer contains."""

    request: bytes
    answer: bytes


DIALECTS: Mapping[Protocol, Dialect] = MappingProxyType(
    {
        "http": Dialect(b"GET /live HTTP/1.1\r\nHost: canary\r\n\r\n", b"HTTP/1"),
        "postgres": Dialect(b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b""),
        "nats": Dialect(b"PING\r\n", b"PONG\r\n"),
    }
)


class Call:
    """A canary in the air: made and waited for here, its connection held open until ``close``."""

    def __init__(
        self, listen: str, protocol: Protocol, timeout_s: float, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        self._give_up = give_up
        self._socket: socket.socket | None = None
        self._sent = 0
        self._received = b""
        self.canary = self._make(listen, protocol, timeout_s)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _make(self, listen: str, protocol: Protocol, timeout_s: float) -> Canary:
        deadline = time.monotonic() + timeout_s
        try:
            self._socket = connect(listen, timeout_s)
        except ConnectionRefusedError as refusal:
            return Canary(connected=False, refused=True, error=str(refusal))
        except OSError as error:
            return Canary(connected=False, error=str(error) or f"no connection within {timeout_s:g} s")
        try:
            if protocol == "tcp":
                return self._watch(self._socket, min(deadline, time.monotonic() + TCP_LOOK_S))
            return self._ask(self._socket, DIALECTS[protocol], deadline)
        except TimeoutError:
            return self._result(error=f"no answer within {timeout_s:g} s")
        except (ConnectionResetError, BrokenPipeError) as reset:
            return self._result(reset=True, ended=True, error=str(reset))
        except OSError as error:
            return self._result(ended=True, error=str(error))

    def _watch(self, held: socket.socket, deadline: float) -> Canary:
        """Nothing to ask: only see whether the connection stays."""
        try:
            while self._receive(held, deadline):
                pass
        except TimeoutError:
            return self._result()
        return self._result(ended=True, error="the connection was ended at once")

    def _ask(self, held: socket.socket, dialect: Dialect, deadline: float) -> Canary:
        started = time.perf_counter()
        held.sendall(dialect.request)
        self._sent = len(dialect.request)
        while self._receive(held, deadline):
            if dialect.answer in self._received:
                return self._result(rtt_ms=(time.perf_counter() - started) * 1000)
        return self._result(ended=True, error="the connection ended before an answer came")

    def _receive(self, held: socket.socket, deadline: float) -> bool:
        """Some more bytes; False at the end of the stream. Raises TimeoutError at the deadline."""
        while (left := deadline - time.monotonic()) > 0 and not self._give_up():
            held.settimeout(min(left, GIVE_UP_S))
            try:
                data = held.recv(65536)
            except TimeoutError:
                continue
            self._received += data
            return bool(data)
        raise TimeoutError

    def _result(
        self,
        *,
        rtt_ms: float | None = None,
        reset: bool = False,
        ended: bool = False,
        error: str | None = None,
    ) -> Canary:
        return Canary(
            connected=True,
            replied=rtt_ms is not None,
            rtt_ms=rtt_ms,
            reset=reset,
            ended=ended,
            error=error,
            request_bytes=self._sent,
            reply_bytes=len(self._received),
        )

    def seconds_to_end(self, timeout_s: float) -> float | None:
        """Say that nothing more will be sent; seconds until the other side ends, None: not in time."""
        if self._socket is None:
            return None
        started = time.monotonic()
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while self._receive(self._socket, started + timeout_s):
                pass
        except TimeoutError:
            return None
        except OSError:
            pass  # an end by reset is an end
        return time.monotonic() - started


def probe(
    listen: str, protocol: Protocol, timeout_s: float, give_up: Callable[[], bool] = lambda: False
) -> Canary:
    """Send one canary to ``host:port`` and wait for its answer, at most ``timeout_s`` in all.

    ``give_up`` is asked now and then while it waits: true ends it early, unanswered.
    """
    call = Call(listen, protocol, timeout_s, give_up)
    call.close()
    return call.canary


def connect(listen: str, timeout_s: float) -> socket.socket:
    host, _, port = listen.rpartition(":")
    held = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return held
