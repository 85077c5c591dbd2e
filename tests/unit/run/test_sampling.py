"""Samples and jobs: asked past every proxy, and never silently no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.model import Sample
from harness.experiment.target import Endpoint
from harness.run import sampling
from harness.run.jobs import run_job
from harness.run.sampling import Question, Sampler
from harness.target.runtime import Address

from .stand_ins import context

pytestmark = pytest.mark.timeout(20)


class Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"fine")

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Address("127.0.0.1", server.server_address[1])
    server.shutdown()
    server.server_close()


def runtime(where: Address) -> Any:
    return type("Runtime", (), {"address": lambda self, service, port: where})()


@pytest.fixture
def one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question("status", "edge", Endpoint(port=1, path="/status"))
    monkeypatch.setattr(sampling, "questions", lambda spec: (question,))


def test_samples_are_taken_past_the_proxy_of_the_environment(where: Address, one_question: None) -> None:
    seen: list[Sample] = []
    sampler = Sampler(None, runtime(where), seen.append)  # type: ignore[arg-type]
    sampler.start()
    time.sleep(0.2)
    sampler.stop()
    assert [(sample.value, sample.text) for sample in seen] == [(200, "fine")]


def test_jobs_are_asked_for_past_the_proxy_of_the_environment(where: Address) -> None:
    job = type("Job", (), {"service": "roaming", "endpoint": Endpoint(port=1, path="/x", method="POST")})()
    spec = type("Spec", (), {"jobs": {"settlement": job}})()
    record = run_job("settlement", context(spec=spec, runtime=runtime(where)), time.time_ns() + 10**9)
    assert (record.done, record.answer) == (True, "200 fine")


def test_a_question_that_is_no_longer_asked_breaks_the_run(where: Address, one_question: None) -> None:
    def full(sample: Sample) -> None:
        raise OSError("no space left on the device")

    sampler = Sampler(None, runtime(where), full)  # type: ignore[arg-type]
    sampler.check()
    sampler.start()
    with pytest.raises(EnvironmentBroken, match="sampling status broke: OSError: no space left"):
        sampler.stop()
    with pytest.raises(EnvironmentBroken):
        sampler.check()


def test_a_sampler_that_never_started_can_be_stopped(where: Address, one_question: None) -> None:
    Sampler(None, runtime(where), lambda sample: None).stop()  # type: ignore[arg-type]
