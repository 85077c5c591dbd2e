"""What a link costs: the built-in engine against the real Toxiproxy server, and no proxy at all.

Each round measures every path in turn, in the same seconds and on the same echo server, so that the
ratios hold though the machine's speed changes. ``python -m benchmarks.links`` prints a table.

Per path: the round trip of one small request at a time on one connection (median, p99), small requests
per second of several connections at once, and the engine's processor time per request, which a busy
machine blurs least.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.errors import EnvironmentBroken
from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine, find_engine
from harness.toxiproxy.links import LinkLayer

ROUNDS = 5
ROUND_TRIPS = 2000
CONNECTIONS = 16
THROUGHPUT_S = 1.0
REQUEST = b"x" * 256
LINKS = 31  # as many as the reference stack has; one carries the load


@dataclass
class Figures:
    """Of one path, over all rounds. Round trips in milliseconds, rates per second (one per round)."""

    trips_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)  # of the engine, per request

    def summary(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.trips_ms, n=100)
        return {
            "median_ms": statistics.median(self.trips_ms),
            "p99_ms": cuts[98],
            "requests_per_s": statistics.median(self.per_second),
            "cpu_us_per_request": statistics.median(self.cpu_us),
        }


def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """Per path (``direct``, ``server`` where it is found, ``builtin``) the figures, and their ratios.

    ``added_ms``: median round trip above the direct one; ``ratio_*``: builtin to server in this run.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        spawner = LocalSpawner()
        stack.callback(spawner.close)
        echo = _echo_server()
        stack.callback(os.waitpid, echo.pid, 0)
        stack.callback(os.kill, echo.pid, signal.SIGKILL)
        paths = {"direct": Way(echo.address, None), **_links(spawner, folder, echo.address)}
        seen = {name: Figures() for name in paths}
        for _ in range(rounds):
            for name, path in paths.items():
                seen[name].trips_ms += _round_trips(path.address)
                _throughput(path, seen[name])
    result: dict[str, Any] = {name: figures.summary() for name, figures in seen.items()}
    for row in result.values():
        row["added_ms"] = row["median_ms"] - result["direct"]["median_ms"]
    if "server" in result:
        result["ratio_added"] = result["builtin"]["added_ms"] / result["server"]["added_ms"]
        result["ratio_p99"] = result["builtin"]["p99_ms"] / result["server"]["p99_ms"]
        result["ratio_cpu"] = result["builtin"]["cpu_us_per_request"] / result["server"]["cpu_us_per_request"]
        result["ratio_requests_per_s"] = (
            result["builtin"]["requests_per_s"] / result["server"]["requests_per_s"]
        )
    return result


def _links(spawner: LocalSpawner, folder: Path, upstream: str) -> dict[str, Way]:
    """The loaded link of each engine."""
    paths = {}
    for kind in ("server", "builtin"):
        try:
            choice = find_engine(kind)  # type: ignore[arg-type]
        except EnvironmentBroken as missing:
            print(f"the real server is not measured: {missing.message}", file=sys.stderr)
            continue
        engine = Engine.start(choice, spawner, folder / f"{kind}.log", port=_free_port())
        links = LinkLayer(engine)
        assert engine.pid is not None
        paths[kind] = Way(links.create("a->b", "127.0.0.1:0", upstream), psutil.Process(engine.pid))
        for place in range(1, LINKS):
            links.create(f"a->b{place}", "127.0.0.1:0", upstream)
    return paths


def _round_trips(address: str) -> list[float]:
    with _dial(address) as held:
        times = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            held.sendall(REQUEST)
            _read(held)
            times.append((time.perf_counter() - started) * 1000)
    return times


def _throughput(way: Way, figures: Figures) -> None:
    """Closed loop: each connection sends its next request when the last one was echoed."""
    held = [_dial(way.address) for _ in range(CONNECTIONS)]
    cpu_s = way.cpu_s()
    done = 0
    with selectors.DefaultSelector() as selector:
        for one in held:
            selector.register(one, selectors.EVENT_READ)
            one.sendall(REQUEST)
        started = time.monotonic()
        while time.monotonic() - started < THROUGHPUT_S:
            for key, _ in selector.select(1.0):
                _read(key.fileobj)  # type: ignore[arg-type]
                key.fileobj.sendall(REQUEST)  # type: ignore[union-attr]
                done += 1
        took = time.monotonic() - started
    figures.per_second.append(done / took)
    figures.cpu_us.append((way.cpu_s() - cpu_s) / done * 1e6)
    for one in held:
        one.close()


def _read(held: socket.socket) -> None:
    left = len(REQUEST)
    while left:
        data = held.recv(left)
        if not data:
            raise ConnectionError("the link ended during the measurement")
        left -= len(data)


def _dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    held = socket.create_connection((host, int(port)), timeout=10)
    held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return held


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Way:
    """Where requests go, and the engine on the way."""

    address: str
    engine: psutil.Process | None

    def cpu_s(self) -> float:
        if self.engine is None:
            return 0.0
        times = self.engine.cpu_times()
        return times.user + times.system


@dataclass(frozen=True)
class Echo:
    pid: int
    address: str


def _echo_server() -> Echo:
    """In a process of its own, so that it shares no interpreter lock with the client."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    pid = os.fork()
    if pid:
        listener.close()
        return Echo(pid, address)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                _echo_turn(selector, listener, key.fileobj)  # type: ignore[arg-type]


def _echo_turn(selector: selectors.BaseSelector, listener: socket.socket, ready: socket.socket) -> None:
    if ready is listener:
        held, _ = listener.accept()
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(held, selectors.EVENT_READ)
        return
    try:
        data = ready.recv(65536)
    except ConnectionError:
        data = b""
    if data:
        ready.sendall(data)
    else:
        selector.unregister(ready)
        ready.close()


def main() -> None:
    result = measure()
    print(f"{'path':10} {'median ms':>10} {'p99 ms':>10} {'added ms':>10} {'requests/s':>12} {'cpu us':>8}")
    for name in ("direct", "server", "builtin"):
        if row := result.get(name):
            figures = (row["median_ms"], row["p99_ms"], row["added_ms"])
            print(
                f"{name:10} {' '.join(f'{one:10.3f}' for one in figures)} {row['requests_per_s']:12.0f} "
                f"{row['cpu_us_per_request']:8.1f}"
            )
    if "server" in result:
        print(
            f"builtin against server: {result['ratio_added']:.2f} x the added median, "
            f"{result['ratio_p99']:.2f} x the p99, {result['ratio_requests_per_s']:.2f} x the requests/s, "
            f"{result['ratio_cpu']:.2f} x the processor time per request"
        )


if __name__ == "__main__":
    main()
