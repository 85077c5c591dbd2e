"""Each proof is False while the fault is not there, and True when it is, on both engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.toxiproxy import proofs
from harness.toxiproxy.canary import Protocol, probe
from harness.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stream,
    Timeout,
)
from tests.conformance.toxiproxy.conftest import Bench, free_port
from tests.conformance.toxiproxy.upstreams import Upstream, dial, eventually, http, one_byte, silent

NAME = "payments->db-1"
PROTOCOLS: tuple[Protocol, ...] = ("http", "postgres", "nats")
STREAMS: tuple[Stream, ...] = ("upstream", "downstream")
PAIRS = pytest.mark.parametrize(
    ("protocol", "stream"),
    [("http", "upstream"), ("http", "downstream"), ("postgres", "downstream"), ("nats", "upstream")],
)
VOLUMES = pytest.mark.parametrize(
    ("protocol", "stream"), [("http", "upstream"), ("http", "downstream"), ("nats", "downstream")]
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An address for each protocol; NATS is a real server."""
    nats_server = Path(sys.executable).parent / "nats-server"
    port = free_port()
    log = (tmp_path_factory.mktemp("nats") / "nats.log").open("wb")
    nats = subprocess.Popen([nats_server, "-a", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    upstreams = {"http": Upstream(http), "postgres": Upstream(one_byte)}
    addresses = {name: upstream.address for name, upstream in upstreams.items()} | {
        "nats": f"127.0.0.1:{port}"
    }
    assert eventually(lambda: probe(addresses["nats"], "nats", 1).replied, 10)
    yield addresses
    for upstream in upstreams.values():
        upstream.close()
    nats.kill()
    nats.wait()
    log.close()


@pytest.fixture
def link(bench: Bench, servers: dict[str, str]):  # type: ignore[no-untyped-def]
    """``link(protocol)`` -> where a link to that server listens."""
    return lambda protocol: bench.links.create(NAME, "127.0.0.1:0", servers[protocol])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_canary_is_answered_on_a_healthy_link(link, protocol: Protocol) -> None:  # type: ignore[no-untyped-def]
    canary = probe(link(protocol), protocol, 2)
    assert canary.replied and canary.rtt_ms and canary.rtt_ms < 500 and canary.error is None


@pytest.mark.parametrize(
    ("protocol", "way"),
    [
        ("http", "both"),
        ("http", "to"),
        ("http", "from"),
        ("postgres", "to"),
        ("nats", "both"),
        ("nats", "from"),
    ],
)
def test_drop(bench: Bench, link, protocol: Protocol, way: proofs.Way) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    streams = {"both": STREAMS, "to": STREAMS[:1], "from": STREAMS[1:]}[way]

    def drop(asked: proofs.Way) -> proofs.Drop:
        return proofs.drop(bench.links, NAME, listen, protocol, asked, timeout_s=0.15)

    assert not drop(way).proved
    for stream in streams:
        bench.links.add_toxic(NAME, stream, Timeout(stream=stream, timeout=0))
    seen = drop(way)
    assert seen.proved and seen.seen.exact, seen
    other: proofs.Way = "from" if way == "to" else "to"
    if way != "both":
        assert not drop(other).proved, "the wrong way is not proved"
    for stream in streams:
        bench.links.remove_toxic(NAME, stream)
    assert not drop(way).proved


def test_a_hung_server_is_not_a_drop(bench: Bench) -> None:
    listen = bench.link(silent, NAME)
    seen = [
        proofs.drop(bench.links, NAME, listen, "http", way, timeout_s=0.2) for way in ("both", "to", "from")
    ]
    assert not any(drop.proved for drop in seen), seen


def test_a_drop_is_proved_beside_other_traffic(bench: Bench, link) -> None:  # type: ignore[no-untyped-def]
    """Connections from before, whose bytes had passed, close while the canary does."""
    listen = link("http")
    old = [dial(listen) for _ in range(30)]
    for held in old:
        held.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        held.recv(1000)
    bench.links.add_toxic(NAME, "cut", Timeout(stream="upstream", timeout=0))

    def trickle() -> None:
        for held in old:
            held.close()
            time.sleep(0.03)

    closer = threading.Thread(target=trickle)
    closer.start()
    assert proofs.drop(bench.links, NAME, listen, "http", "to", timeout_s=0.2).proved
    closer.join()


def test_reject(bench: Bench, link) -> None:  # type: ignore[no-untyped-def]
    listen = link("http")
    assert not proofs.reject(bench.links, NAME, listen).proved
    bench.links.set_enabled(NAME, False)
    assert proofs.reject(bench.links, NAME, listen).proved
    assert probe(listen, "http", 1).refused


@PAIRS
def test_latency(bench: Bench, link, servers, protocol: Protocol, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    before = min(probe(listen, protocol, 2).rtt_ms or 0 for _ in range(3))
    assert not proofs.latency(listen, protocol, at_least_ms=80, direct=servers[protocol]).proved
    bench.links.add_toxic(NAME, "slow", Latency(stream=stream, latency=150))
    seen = proofs.latency(listen, protocol, at_least_ms=80, direct=servers[protocol])
    assert seen.proved and seen.added_ms and 80 <= seen.added_ms < 350
    assert proofs.latency(listen, protocol, at_least_ms=80, before_ms=before).proved
    assert not proofs.latency(listen, protocol, at_least_ms=20, at_most_ms=60, before_ms=before).proved
    slow_before = proofs.latency(
        listen, protocol, at_least_ms=80, before_ms=before + 100, direct=servers[protocol]
    )
    assert not slow_before.proved, "it was as slow before"


def test_a_slow_server_is_not_latency(bench: Bench) -> None:
    def slow(held) -> None:  # type: ignore[no-untyped-def]
        while held.recv(65536):
            time.sleep(0.1)
            held.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    listen = bench.link(slow, NAME)
    direct = bench.links.state(NAME).upstream
    assert not proofs.latency(listen, "http", at_least_ms=80, direct=direct).proved


@PAIRS
def test_reset(bench: Bench, link, servers, protocol: Protocol, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    assert not proofs.reset(listen, protocol, timeout_s=1, direct=servers[protocol]).proved
    bench.links.add_toxic(NAME, "reset", ResetPeer(stream=stream, timeout=20))
    assert proofs.reset(listen, protocol, timeout_s=1, direct=servers[protocol]).proved


@PAIRS
def test_slow_close(bench: Bench, link, protocol: Protocol, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    toxic = SlowClose(stream=stream, delay=150)
    assert not proofs.slow_close(listen, protocol, toxic).proved
    bench.links.add_toxic(NAME, "late", toxic)
    assert proofs.slow_close(listen, protocol, toxic).proved


@VOLUMES
def test_limit_data(bench: Bench, link, protocol: Protocol, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    toxic = LimitData(stream=stream, bytes=1234)
    assert not proofs.limit_data(bench.links, NAME, listen, protocol, toxic).proved
    bench.links.add_toxic(NAME, "limit", toxic)
    seen = proofs.limit_data(bench.links, NAME, listen, protocol, toxic)
    assert seen.proved, seen


@VOLUMES
def test_bandwidth(bench: Bench, link, servers, protocol: Protocol, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link(protocol)
    toxic = Bandwidth(stream=stream, rate=15)
    assert not proofs.bandwidth(listen, protocol, toxic, direct=servers[protocol]).proved
    bench.links.add_toxic(NAME, "narrow", toxic)
    seen = proofs.bandwidth(listen, protocol, toxic, direct=servers[protocol])
    assert seen.proved, seen


def test_a_server_that_ends_or_is_slow_is_neither_limit_nor_bandwidth(bench: Bench) -> None:
    def ends(held) -> None:  # type: ignore[no-untyped-def]
        held.recv(65536)
        held.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def drags(held) -> None:  # type: ignore[no-untyped-def]
        while data := held.recv(65536):
            for _ in range(data.count(b"GET")):
                time.sleep(0.01)
                held.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    limit = LimitData(stream="downstream", bytes=1234)
    assert not proofs.limit_data(bench.links, "ends", bench.link(ends, "ends"), "http", limit).proved
    rate = Bandwidth(stream="downstream", rate=5)
    listen = bench.link(drags, "drags")
    seen = proofs.bandwidth(listen, "http", rate, direct=bench.links.state("drags").upstream)
    assert seen.through < 5000 and not seen.proved, seen


@pytest.mark.parametrize("stream", STREAMS)
def test_slicer(bench: Bench, link, servers, stream: Stream) -> None:  # type: ignore[no-untyped-def]
    listen = link("http")
    toxic = Slicer(stream=stream, average_size=8, delay=8000)
    assert not proofs.slicer(listen, "http", toxic, direct=servers["http"]).proved
    bench.links.add_toxic(NAME, "slices", toxic)
    seen = proofs.slicer(listen, "http", toxic, direct=servers["http"])
    assert seen.proved, seen


def test_a_paused_server_behind_a_link_is_neither_refused_nor_reset(
    bench: Bench, servers: dict[str, str]
) -> None:
    """What a canary shows of a frozen process: the kernel accepts, nobody answers."""
    code = "import socket,sys,time; s=socket.create_server(('127.0.0.1',int(sys.argv[1]))); time.sleep(60)"
    port = free_port()
    frozen = subprocess.Popen([sys.executable, "-c", code, str(port)])
    try:
        assert eventually(lambda: probe(f"127.0.0.1:{port}", "tcp", 1).connected, 10)
        os.kill(frozen.pid, signal.SIGSTOP)
        listen = bench.links.create(NAME, "127.0.0.1:0", f"127.0.0.1:{port}")
        canary = probe(listen, "http", 0.2)
        assert canary.silent and not canary.refused and not canary.reset
        assert not proofs.drop(bench.links, NAME, listen, "http", "both", timeout_s=0.2).proved
    finally:
        frozen.kill()
        frozen.wait()
