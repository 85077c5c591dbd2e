"""What links of these tests lead to: small threaded servers, and a client that notices how it ends."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable

HOST = "127.0.0.1"


class Upstream:
    """Serves each connection by ``behave(socket)`` in a thread. ``ended`` counts finished ones."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self.accepted: list[socket.socket] = []
        self.ended = 0
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                held, _ = self._listener.accept()
            except OSError:
                return
            self.accepted.append(held)
            threading.Thread(target=self._serve, args=(held,), daemon=True).start()

    def _serve(self, held: socket.socket) -> None:
        with held, contextlib.suppress(OSError):
            self._behave(held)
        self.ended += 1

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for held in self.accepted:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
            held.close()


def echo(held: socket.socket) -> None:
    while data := held.recv(65536):
        held.sendall(data)


def one_byte(held: socket.socket) -> None:
    """Answers the first request by one byte, as PostgreSQL answers an SSLRequest."""
    if held.recv(8):
        held.sendall(b"N")
        while held.recv(65536):
            pass


def http(held: socket.socket) -> None:
    """Keep-alive, pipelined ``GET`` requests; answers of some 130 bytes."""
    body = b'{"status": "live", "pad": "0123456789012345678901234567890123456789"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nServer: test\r\n\r\n%s" % (len(body), body)
    waiting = b""
    while data := held.recv(65536):
        *requests, waiting = re.split(b"\r\n\r\n", waiting + data)
        if requests:
            held.sendall(answer * len(requests))


def flood(held: socket.socket) -> None:
    while True:
        held.sendall(b"x" * 65536)


def silent(held: socket.socket) -> None:
    """Reads all, answers nothing."""
    while held.recv(65536):
        pass


def dial(listen: str, timeout_s: float = 5.0) -> socket.socket:
    host, _, port = listen.rpartition(":")
    held = socket.create_connection((host, int(port)), timeout=timeout_s)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return held


def read_exactly(held: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = held.recv(65536)
        if not piece:
            break
        data += piece
    return data


def round_trip_ms(held: socket.socket, data: bytes = b"ping") -> float:
    started = time.perf_counter()
    held.sendall(data)
    assert read_exactly(held, len(data)) == data
    return (time.perf_counter() - started) * 1000


def how_it_ends(held: socket.socket, timeout_s: float = 3.0) -> str:
    """``fin``, ``reset`` or ``open`` when nothing happens in that time; data on the way is passed over."""
    held.settimeout(timeout_s)
    try:
        while held.recv(65536):
            pass
    except TimeoutError:
        return "open"
    except ConnectionResetError:
        return "reset"
    return "fin"


def eventually(true: Callable[[], bool], timeout_s: float = 3.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return true()
