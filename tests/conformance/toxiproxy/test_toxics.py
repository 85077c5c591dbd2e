"""Every toxic's effect, seen from the two ends of real sockets."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import psutil
import pytest

from harness.toxiproxy.engine import Engine
from harness.toxiproxy.links import LinkBytes
from harness.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
from tests.conformance.toxiproxy.conftest import Bench
from tests.conformance.toxiproxy.upstreams import (
    dial,
    echo,
    eventually,
    flood,
    how_it_ends,
    read_exactly,
    round_trip_ms,
    silent,
)

NAME = "a->b:8008"
SLACK_MS = 60  # two cores, shared


def test_without_toxics_everything_passes_unchanged(bench: Bench) -> None:
    listen = bench.link(echo)
    blob = os.urandom(3_000_000)
    with dial(listen) as held:
        held.setblocking(True)
        sender = threading.Thread(target=held.sendall, args=(blob,))
        sender.start()
        assert read_exactly(held, len(blob)) == blob
        sender.join()


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_delays_each_chunk_and_removal_ends_it(bench: Bench, stream: str) -> None:
    with dial(bench.link(echo)) as held:
        assert round_trip_ms(held) < SLACK_MS
        bench.links.add_toxic(NAME, "slow", Latency(stream=stream, latency=150))
        assert 145 <= round_trip_ms(held) < 150 + SLACK_MS
        bench.links.remove_toxic(NAME, "slow")
        assert round_trip_ms(held) < SLACK_MS


def test_latencies_add_up_and_jitter_stays_in_its_range(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(NAME, "one", Latency(stream="downstream", latency=60))
        bench.links.add_toxic(NAME, "two", Latency(stream="downstream", latency=60, jitter=30))
        times = [round_trip_ms(held) for _ in range(8)]
        for place in range(20):
            held.sendall(b"%02d" % place)
            time.sleep(0.004)
        assert read_exactly(held, 40) == b"".join(b"%02d" % place for place in range(20)), "in order"
    assert all(88 <= took < 150 + SLACK_MS for took in times), times
    assert max(times) - min(times) > 3, f"no jitter: {times}"


def test_removing_latency_lets_go_of_what_it_holds(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(NAME, "slow", Latency(stream="upstream", latency=60_000))
        held.sendall(b"one")
        time.sleep(0.05)
        held.sendall(b"two")
        time.sleep(0.05)
        bench.links.remove_toxic(NAME, "slow")
        assert read_exactly(held, 6) == b"onetwo"


def test_bandwidth_limits_one_stream(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(NAME, "narrow", Bandwidth(stream="downstream", rate=200))
        started = time.monotonic()
        held.sendall(b"x" * 100_000)
        assert len(read_exactly(held, 100_000)) == 100_000
        took = time.monotonic() - started
    assert 0.45 <= took <= 0.8


def test_timeout_drops_keeps_open_and_its_removal_closes(bench: Bench) -> None:
    listen = bench.link(echo)
    with dial(listen) as held:
        assert round_trip_ms(held) < SLACK_MS
        bench.links.add_toxic(NAME, "cut", Timeout(stream="upstream", timeout=0))
        held.sendall(b"lost")
        assert how_it_ends(held, 0.3) == "open"
        bench.links.remove_toxic(NAME, "cut")
        assert how_it_ends(held) == "fin"
    with dial(listen) as held:
        assert round_trip_ms(held) < SLACK_MS


def test_timeout_ends_a_connection_after_that_much_silence(bench: Bench) -> None:
    with dial(bench.link(silent)) as held:
        bench.links.add_toxic(NAME, "cut", Timeout(stream="upstream", timeout=400))
        started = time.monotonic()
        for _ in range(3):  # each chunk restarts the clock
            time.sleep(0.15)
            held.sendall(b"x")
        assert how_it_ends(held) in ("fin", "reset")
        assert 0.8 <= time.monotonic() - started <= 1.4


def test_reset_peer_resets_new_connections_only(bench: Bench) -> None:
    listen = bench.link(echo)
    with dial(listen) as old, dial(listen) as idle:
        round_trip_ms(old), round_trip_ms(idle)
        bench.links.add_toxic(NAME, "reset", ResetPeer(stream="downstream", timeout=100))
        with dial(listen) as new:
            started = time.monotonic()
            new.sendall(b"x")
            assert how_it_ends(new) == "reset"
            assert 0.09 <= time.monotonic() - started <= 0.3
        old.sendall(b"x")
        assert how_it_ends(old) == "fin"
        assert how_it_ends(idle, 0.2) == "open"


def test_a_triggered_reset_peer_can_be_removed(bench: Bench) -> None:
    """The real server answers the removal only after the toxic's timeout: longer than our deadline."""
    listen = bench.link(echo)
    bench.links.add_toxic(NAME, "reset", ResetPeer(stream="upstream", timeout=1300))
    with dial(listen) as held:
        held.sendall(b"x")
        time.sleep(0.1)
        bench.links.remove_toxic(NAME, "reset")
        assert not bench.restarts
        assert how_it_ends(held) == "reset"
    with dial(listen) as held:
        assert round_trip_ms(held) < SLACK_MS


def test_slicer_cuts_data_into_pieces(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(
            NAME, "slice", Slicer(stream="downstream", average_size=20, size_variation=5, delay=8000)
        )
        started = time.monotonic()
        held.sendall(b"x" * 200)
        sizes = []
        while sum(sizes) < 200:
            sizes.append(len(held.recv(65536)))
        took = time.monotonic() - started
    assert len(sizes) >= 8, sizes
    assert took >= 0.008 * (len(sizes) - 1) * 0.9


def test_slices_without_delay_are_written_one_by_one(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(NAME, "slice", Slicer(stream="downstream", average_size=20))
        first_reads = []
        for _ in range(20):
            held.sendall(b"x" * 4000)
            first_reads.append(len(held.recv(65536)))
            read_exactly(held, 4000 - first_reads[-1])
    assert min(first_reads) < 4000, "every answer came in one piece"


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_slow_close_delays_the_end(bench: Bench, stream: str) -> None:
    """The client's end closes the server's side, whose end comes back: delayed on the way there or back."""
    bench.link(echo)
    bench.links.add_toxic(NAME, "late", SlowClose(stream=stream, delay=250))
    upstream = bench.upstreams[0]
    with dial(bench.links.state(NAME).listen) as held:
        assert round_trip_ms(held) < SLACK_MS, "data is not delayed"
        started = time.monotonic()
        held.shutdown(1)
        if stream == "upstream":
            assert eventually(lambda: upstream.ended == 1)
        assert how_it_ends(held) == "fin"
        assert 0.24 <= time.monotonic() - started <= 0.6


def test_limit_data_ends_the_connection_after_its_bytes(bench: Bench) -> None:
    listen = bench.link(echo)
    bench.links.add_toxic(NAME, "limit", LimitData(stream="downstream", bytes=10))
    with dial(listen) as held:
        held.sendall(b"1234567")
        assert read_exactly(held, 7) == b"1234567"
        held.sendall(b"890abc")
        assert read_exactly(held, 99) == b"890"


def test_toxicity_is_drawn_per_connection(bench: Bench) -> None:
    listen = bench.link(echo)
    bench.links.add_toxic(NAME, "half", Timeout(stream="upstream", timeout=0, toxicity=0.5))
    connections = [dial(listen) for _ in range(40)]
    for held in connections:
        held.sendall(b"x")
    time.sleep(0.3)
    answered = 0
    for held in connections:
        held.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            answered += held.recv(1) == b"x"
        held.close()
    assert 5 <= answered <= 35


def test_a_toxic_works_on_its_own_stream_only(bench: Bench) -> None:
    bench.link(echo)
    upstream = bench.upstreams[0]
    bench.links.add_toxic(NAME, "cut", Timeout(stream="downstream", timeout=0))
    before = bench.links.bytes_closed(NAME)
    with dial(bench.links.state(NAME).listen) as held:
        held.sendall(b"arrives")
        assert eventually(lambda: len(upstream.accepted) == 1)
        assert how_it_ends(held, 0.2) == "open"
    assert eventually(lambda: bench.links.bytes_closed(NAME) - before == LinkBytes(7, 7, 7, 0))


@pytest.mark.parametrize("toxic", [None, Latency(latency=20)])
def test_a_reader_that_does_not_read_costs_no_memory_and_a_toxic_goes(
    bench: Bench, engine: Engine, toxic: Latency | None
) -> None:
    """The real server may hang here when the toxic is removed: the layer must then replace it."""
    listen = bench.link(flood)
    if toxic:
        bench.links.add_toxic(NAME, "held", toxic)
    assert engine.pid
    before = psutil.Process(engine.pid).memory_info().rss
    with dial(listen):
        time.sleep(0.4)
        grown = psutil.Process(engine.pid).memory_info().rss - before
        assert grown < 80_000_000, f"{grown} bytes held"
        if toxic:
            bench.links.remove_toxic(NAME, "held")
    assert bench.links.toxics(NAME) == {}
    assert len(bench.restarts) <= (engine.choice.kind == "server")
    with dial(listen) as held:
        assert read_exactly(held, 100_000)
