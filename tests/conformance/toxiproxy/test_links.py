"""What both engines do with connections, requests and errors; and what the layer makes of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
import requests

from harness.errors import EnvironmentBroken, LinkError
from harness.spawn import LocalSpawner
from harness.toxiproxy.engine import Engine, EngineChoice, find_engine
from harness.toxiproxy.links import LinkBytes, LinkLayer
from harness.toxiproxy.toxics import Latency, Timeout
from tests.conformance.toxiproxy.conftest import Bench, free_port
from tests.conformance.toxiproxy.upstreams import (
    dial,
    echo,
    eventually,
    flood,
    how_it_ends,
    round_trip_ms,
    silent,
)

NAME = "a->b:8008"
QUOTED = "a-%3Eb%3A8008"


def test_disabling_ends_connections_and_refuses_new_ones(bench: Bench) -> None:
    listen = bench.link(echo)
    with dial(listen) as held:
        round_trip_ms(held)
        bench.links.set_enabled(NAME, False)
        assert how_it_ends(held) == "fin"
    with pytest.raises(ConnectionRefusedError):
        dial(listen)
    bench.links.set_enabled(NAME, False)
    bench.links.set_enabled(NAME, True)
    bench.links.set_enabled(NAME, True)
    with dial(listen) as held:
        round_trip_ms(held)


def test_a_link_accepts_before_it_dials(bench: Bench) -> None:
    listen = bench.links.create(NAME, "127.0.0.1:0", f"127.0.0.1:{free_port()}")
    with dial(listen) as held:
        assert how_it_ends(held) in ("fin", "reset")


def test_half_closing_is_not_passed_on(bench: Bench) -> None:
    def answer_after_the_end(held: socket.socket) -> None:
        silent(held)
        time.sleep(0.1)
        held.sendall(b"too late")

    with dial(bench.link(answer_after_the_end)) as held:
        held.sendall(b"x")
        held.shutdown(socket.SHUT_WR)
        assert held.recv(100) == b""


def test_the_server_ending_ends_the_client(bench: Bench) -> None:
    with dial(bench.link(lambda held: held.sendall(b"bye"))) as held:
        assert held.recv(100) == b"bye"
        assert how_it_ends(held) == "fin"


def test_bytes_are_counted_when_a_connection_closes(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        before = bench.links.bytes_closed(NAME)  # counters outlive the link they were counted for
        round_trip_ms(held, b"12345")
        time.sleep(0.05)
        assert bench.links.bytes_closed(NAME) == before
    assert eventually(lambda: bench.links.bytes_closed(NAME) - before == LinkBytes(5, 5, 5, 5))


def test_what_could_not_be_written_is_not_counted_as_sent(bench: Bench) -> None:
    held = dial(bench.link(flood))
    before = bench.links.bytes_closed(NAME)
    time.sleep(0.2)  # until every buffer on the way is full
    held.close()
    time.sleep(0.2)
    assert (bench.links.bytes_closed(NAME) - before).sent_down == 0


def test_what_was_set_is_what_is_read(bench: Bench) -> None:
    bench.link(echo)
    bench.link(echo, "payments->psp-a")
    toxic = Latency(stream="upstream", latency=70, jitter=7, toxicity=0.3)
    bench.links.add_toxic(NAME, "f1-upstream", toxic)
    bench.links.set_enabled("payments->psp-a", False)
    assert bench.links.names() == (NAME, "payments->psp-a")
    found = bench.links.snapshot()
    assert found[NAME].enabled and not found["payments->psp-a"].enabled
    assert found[NAME].toxics["f1-upstream"].model_copy(update={"toxicity": 0.3}) == toxic
    bench.links.remove_toxic(NAME, "f1-upstream")
    bench.links.remove_toxic(NAME, "f1-upstream")  # gone is fine
    assert bench.links.toxics(NAME) == {}


def test_what_cannot_be_done_is_said(bench: Bench) -> None:
    bench.link(echo)
    bench.links.add_toxic(NAME, "t", Timeout(timeout=0))
    taken = bench.serve(echo).address
    with pytest.raises(LinkError, match="address already in use"):
        bench.links.create("other", taken, "127.0.0.1:1")
    with pytest.raises(LinkError, match="exists already"):
        bench.links.create(NAME, "127.0.0.1:0", "127.0.0.1:1")
    with pytest.raises(LinkError, match="has a toxic 't' already"):
        bench.links.add_toxic(NAME, "t", Timeout(timeout=0))
    with pytest.raises(LinkError, match="no link 'nowhere'"):
        bench.links.set_enabled("nowhere", False)
    with pytest.raises(LinkError, match="cannot be the name"):
        bench.links.create("a/b", "127.0.0.1:0", "127.0.0.1:1")
    assert bench.links.names() == (NAME,)


def test_a_change_behind_our_back_is_noticed(bench: Bench) -> None:
    bench.link(echo)
    requests.post(f"{bench.api}/proxies/{QUOTED}/toxics", json={"name": "x", "type": "timeout"}, timeout=5)
    with pytest.raises(LinkError, match=r"did not do as asked.*toxics"):
        bench.links.add_toxic(NAME, "mine", Latency(latency=1))


def test_what_the_api_does_with_odd_requests(bench: Bench) -> None:
    """The quirks that the layer is built around, so that a new release cannot change them unseen."""
    bench.link(echo)
    toxics = f"{bench.api}/proxies/{QUOTED}/toxics"

    def post(url: str, body: object) -> tuple[int, dict]:  # type: ignore[type-arg]
        answer = requests.post(url, json=body, timeout=5)
        return answer.status_code, answer.json()

    status, made = post(toxics, {"type": "latency", "attributes": {"latncy": 500}})
    assert (status, made["attributes"]) == (200, {"latency": 0, "jitter": 0}), "a typing error is not told"
    assert made["name"] == "latency_downstream" and made["toxicity"] == 1
    assert post(toxics, {"name": "t50", "type": "timeout", "toxicity": 50})[0] == 200
    assert post(toxics, {"name": "t50", "type": "timeout"})[0] == 409
    assert post(toxics, {"type": "nonsense"})[0] == 400
    assert post(toxics, {"type": "timeout", "stream": "sideways"})[0] == 400
    assert post(toxics, {"type": "limit_data", "attributes": {"bytes": 1.5}})[0] == 400
    status, made = post(f"{toxics}/latency_downstream", {"attributes": {"latency": 30}})
    assert (status, made["attributes"]) == (200, {"latency": 30, "jitter": 0})
    assert requests.delete(f"{toxics}/nothing", timeout=5).status_code == 404
    assert requests.get(f"{bench.api}/proxies/nothing", timeout=5).json()["error"] == "proxy not found"
    assert post(f"{bench.api}/proxies", {"name": "n"})[0] == 400
    assert requests.put(f"{bench.api}/proxies", timeout=5).status_code == 405
    assert requests.get(f"{bench.api}/nowhere", timeout=5).status_code == 404
    browser = {"User-Agent": "Mozilla/5.0"}
    assert requests.get(f"{bench.api}/version", headers=browser, timeout=5).status_code == 403


def test_populate_keeps_stale_toxics_and_reset_clears_all(bench: Bench) -> None:
    bench.link(echo)
    bench.links.add_toxic(NAME, "old", Timeout(timeout=0))
    here = bench.links.state(NAME)
    entries = [{"name": NAME, "listen": here.listen, "upstream": here.upstream}]
    answer = requests.post(f"{bench.api}/populate", json=entries, timeout=5)
    assert answer.status_code == 201
    assert [toxic["name"] for toxic in answer.json()["proxies"][0]["toxics"]] == ["old"]
    entries[0]["upstream"] = "127.0.0.1:1"
    moved = requests.post(f"{bench.api}/populate", json=entries, timeout=5).json()["proxies"][0]
    assert moved["toxics"] == [] and moved["upstream"] == "127.0.0.1:1"
    requests.patch(f"{bench.api}/proxies/{QUOTED}", json={"enabled": False}, timeout=5)
    assert requests.post(f"{bench.api}/reset", timeout=5).status_code == 204
    assert bench.links.state(NAME).enabled


def test_an_updated_toxic_works_at_once(bench: Bench) -> None:
    with dial(bench.link(echo)) as held:
        bench.links.add_toxic(NAME, "slow", Latency(latency=1))
        url = f"{bench.api}/proxies/{QUOTED}/toxics/slow"
        requests.post(url, json={"attributes": {"latency": 120}}, timeout=5)
        assert round_trip_ms(held) >= 115


def test_a_dead_engine_is_replaced_with_all_that_is_wanted(bench: Bench, engine: Engine) -> None:
    listen = bench.link(echo)
    off = bench.link(echo, "off")
    bench.links.add_toxic(NAME, "slow", Latency(latency=100))
    bench.links.set_enabled("off", False)
    assert engine.pid
    os.kill(engine.pid, signal.SIGKILL)
    bench.links.add_toxic(NAME, "more", Latency(latency=100))
    assert [restart.cause for restart in bench.restarts] and bench.restarts[0].took_s < 5
    assert set(bench.links.toxics(NAME)) == {"slow", "more"}
    with dial(listen) as held:
        assert round_trip_ms(held) >= 195
    with pytest.raises(ConnectionRefusedError):
        dial(off)


def test_a_hung_engine_is_replaced(bench: Bench, engine: Engine) -> None:
    listen = bench.link(echo)
    assert engine.pid
    os.kill(engine.pid, signal.SIGSTOP)
    process = psutil.Process(engine.pid)
    assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    started = time.monotonic()
    bench.links.set_enabled(NAME, True)
    assert time.monotonic() - started < 5 and len(bench.restarts) == 1
    with dial(listen) as held:
        round_trip_ms(held)


def test_an_engine_is_not_taken_for_ours_when_a_stranger_answers(
    engine: Engine, choice: EngineChoice, spawner: LocalSpawner, tmp_path: Path
) -> None:
    """A second real server on a busy port stays alive, and the API answers: the other one's."""
    with pytest.raises(EnvironmentBroken, match=r"another process listens there|ended at once"):
        Engine.start(choice, spawner, tmp_path / "second.log", port=engine.port)


def test_a_stopped_engine_stays_stopped(choice: EngineChoice, spawner: LocalSpawner, tmp_path: Path) -> None:
    engine = Engine.start(choice, spawner, tmp_path / "engine.log", port=free_port())
    links = LinkLayer(engine, timeout_s=1)
    engine.stop()
    engine.stop()
    assert not engine.alive()
    with pytest.raises(LinkError, match="stopped already"):
        links.snapshot()


def test_two_engines_in_one_process_do_not_meet(bench: Bench, spawner: LocalSpawner, tmp_path: Path) -> None:
    other = Engine.start(find_engine("builtin"), spawner, tmp_path / "other.log", port=free_port())
    links = LinkLayer(other)
    listen = bench.link(echo)
    there = links.create(NAME, "127.0.0.1:0", bench.upstreams[0].address)
    links.add_toxic(NAME, "slow", Latency(latency=100))
    assert bench.links.toxics(NAME) == {}
    with dial(listen) as here, dial(there) as slow:
        assert round_trip_ms(here) < 60
        assert round_trip_ms(slow) >= 95
    other.stop()
    assert bench.links.state(NAME).enabled
