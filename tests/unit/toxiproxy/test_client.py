"""The client against a server that answers as told: errors are errors, silence is silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import toxiproxy.api

from harness.errors import LinkError
from harness.toxiproxy.client import Client, EngineSilent, NotFoundError
from harness.toxiproxy.metrics import LinkBytes, read


class Told(BaseHTTPRequestHandler):
    """Answers what ``answer`` says, and notes each request line."""

    answer: tuple[int, bytes] = (200, b"{}")
    delay_s = 0.0
    asked: list[str] = []  # noqa: RUF012

    def _reply(self) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(self.delay_s)
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    do_GET = do_POST = do_DELETE = _reply

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def told() -> Iterator[type[Told]]:
    handler = type("Handler", (Told,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    handler.port = server.server_port  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield handler
    server.shutdown()
    server.server_close()


def client(told: type[Told]) -> Client:
    return Client("127.0.0.1", told.port, 0.3)  # type: ignore[attr-defined]


def test_a_refusal_by_5xx_is_an_error_with_its_reason(told: type[Told]) -> None:
    told.answer = (500, b'{"error": "listen tcp: address already in use", "status": 500}')
    with pytest.raises(LinkError, match="refused with 500: listen tcp: address already in use"):
        client(told).proxy("a").enable()


def test_silence_503_and_a_dead_port_are_silence(told: type[Told]) -> None:
    told.answer = (503, b"")
    with pytest.raises(EngineSilent, match="503"):
        client(told).metrics()
    told.delay_s = 1.0
    started = time.monotonic()
    with pytest.raises(EngineSilent, match="no answer"):
        client(told).describe("a")
    assert time.monotonic() - started < 0.9
    with pytest.raises(EngineSilent, match="no answer"):
        Client("127.0.0.1", 1, 0.3).version()


def test_what_is_missing_is_told_apart(told: type[Told]) -> None:
    told.answer = (404, b'{"error": "toxic not found", "status": 404}')
    with pytest.raises(NotFoundError, match="toxic not found"):
        client(told).remove_toxic("a", "b", 1)


def test_names_are_quoted_in_every_path(told: type[Told]) -> None:
    asked = client(told)
    asked.proxy("a->b:1").disable()
    asked.proxy("a->b:1").add_toxic(name="x", type="timeout")
    asked.remove_toxic("a->b:1", "x y?", 1)
    asked.describe("50%")
    assert told.asked == [
        "POST /proxies/a-%3Eb%3A1",
        "POST /proxies/a-%3Eb%3A1/toxics",
        "DELETE /proxies/a-%3Eb%3A1/toxics/x%20y%3F",
        "GET /proxies/50%25",
    ]


def test_clients_share_nothing_with_each_other_or_the_library(told: type[Told]) -> None:
    before = (toxiproxy.api.APIConsumer.host, toxiproxy.api.APIConsumer.port)
    first, second = client(told), Client("127.0.0.1", 1, 0.3)
    first.proxy("a").enable()
    with pytest.raises(EngineSilent):
        second.proxy("a").enable()
    assert len(told.asked) == 1
    assert (toxiproxy.api.APIConsumer.host, toxiproxy.api.APIConsumer.port) == before


def test_proxies_of_the_environment_are_not_used(told: type[Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    client(told).proxy("a").enable()


def test_counters_are_summed_by_link() -> None:
    received, sent = "toxiproxy_proxy_received_bytes_total", "toxiproxy_proxy_sent_bytes_total"
    page = (
        f"# TYPE {received} counter\n"
        f'{received}{{direction="upstream",listener="h:1",proxy="a->b",upstream="x"}} 1e+06\n'
        f'{received}{{direction="upstream",listener="h:2",proxy="a->b",upstream="x"}} 5\n'
        f'{sent}{{direction="downstream",listener="h:1",proxy="q\\"\\\\,x",upstream="x"}} 7\n'
        "promhttp_metric_handler_errors_total 0\n"
    )
    assert read(page) == {"a->b": LinkBytes(received_up=1_000_005), 'q"\\,x': LinkBytes(sent_down=7)}
