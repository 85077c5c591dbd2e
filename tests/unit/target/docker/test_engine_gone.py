"""An engine that had answered and is away: seen whatever was asked, and told from one that says no."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.errors import EnvironmentBroken
from harness.experiment.target import TargetSpec
from harness.target.docker.endpoint import EngineGone, asking, connect
from harness.target.docker.labels import Claim
from harness.target.docker.runtime import DockerRuntime
from harness.target.docker.sweep import Thing, remove, sweep
from harness.target.docker.watch import Watch
from harness.target.supervisor import Supervisor

ANSWERS = {
    "version": {"ApiVersion": "1.41"},
    "info": {"ID": "X", "ServerVersion": "20.10"},
}


class Handler(BaseHTTPRequestHandler):
    """Knows its version; a stream of events that never come; says no to all else."""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        body = json.dumps(ANSWERS.get(name, {"message": "not today"})).encode()
        self.send_response(200 if name in ANSWERS or name == "events" else 500)
        if name == "events":
            self.end_headers()
            self.wfile.flush()
            assert isinstance(self.server, Stub)
            self.server.over.wait(20)
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class Stub(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    over = threading.Event()


@contextmanager
def engine(place: Path) -> Iterator[str]:
    """One that answers as long as the block lasts."""
    server = Stub(str(place), Handler)
    server.over = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"unix://{place}"
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        with suppress(FileNotFoundError):
            place.unlink()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


def test_one_that_never_answered_cannot_be_reached(place: Path) -> None:
    with pytest.raises(EnvironmentBroken, match=rf"cannot reach .* at unix://{place}: \[Errno 2\]") as caught:
        connect(f"unix://{place}")
    assert not isinstance(caught.value, EngineGone)


def test_one_that_says_no_is_not_gone(place: Path) -> None:
    with engine(place) as url:
        docker = connect(url)
        with pytest.raises(EnvironmentBroken, match=r"cannot count: .*not today") as caught, asking("count"):
            docker.api.containers()
    assert not isinstance(caught.value, EngineGone)


def test_one_that_is_gone_is_gone_whatever_is_asked(place: Path) -> None:
    with engine(place) as url:
        docker = connect(url)
    text = f"the Docker engine at {url} was stopped or restarted in the middle"
    for ask in (
        lambda: docker.api.containers(),
        lambda: sweep(docker, "run"),
        lambda: remove(docker, Thing("container", "x", "x")),
    ):
        with pytest.raises(EngineGone) as caught:
            ask()
        assert caught.value.message == text and "ledgerquake cleanup" in str(caught.value.hint)


def test_a_reason_is_not_taken_from_what_was_raised_before(place: Path) -> None:
    try:
        raise EnvironmentBroken("something else")
    except EnvironmentBroken:
        with pytest.raises(EnvironmentBroken, match="cannot reach") as caught:
            connect(f"unix://{place}")
    assert "something else" not in caught.value.message


def test_a_watch_sees_one_that_was_away_for_an_instant(place: Path) -> None:
    with engine(place) as url:
        watch = Watch(connect(url))
        watch.check()
    with engine(place), pytest.raises(EngineGone, match="stopped or restarted in the middle"):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            watch.check()
            time.sleep(0.01)


def test_a_watch_that_was_closed_sees_nothing_any_more_and_listens_no_longer(place: Path) -> None:
    with engine(place) as url:
        watch = Watch(connect(url))
        watch.close()
        watch.close()
        watch._listener.join(5)
        assert not watch._listener.is_alive()
    watch.check()


def test_nobody_has_died_on_an_engine_that_was_away_meanwhile(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers again, and all that it ran is gone: that says nothing about any service."""
    monkeypatch.setattr(Claim, "of_run", lambda scratch: SimpleNamespace(labels=dict))
    spec = TargetSpec(name="t", folder=".", services={}, links={}, functions={}, entry="x")
    with engine(place) as url:
        docker, nobody = connect(url), cast(Supervisor, None)
        runtime = DockerRuntime(
            spec, run_id="r", scratch=tmp_path, supervisor=nobody, docker=docker, images={}
        )
        runtime._watch = watch = Watch(docker)
        assert runtime.deaths() == ()
    watch._listener.join(5)
    with engine(place), pytest.raises(EngineGone):
        runtime.deaths()
