"""What is pending by a service's own word; what is no such word is not "nothing"."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.experiment.target import Endpoint, Pending
from harness.run.settling import UNASKED, pending_work
from harness.target.runtime import Address

pytestmark = pytest.mark.timeout(20)


class Service(BaseHTTPRequestHandler):
    status, body = 200, b"{}"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def where() -> Iterator[Address]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Address("127.0.0.1", server.server_address[1])
    server.shutdown()
    server.server_close()


def asked(where: Address) -> dict[str, int]:
    pending = (Pending(name="call-backs", service="psp", endpoint=Endpoint(port=1, path="/pending")),)
    spec: Any = type("Spec", (), {"settled": (), "pending": pending})()
    runtime: Any = type("Runtime", (), {"address": lambda self, service, port: where})()
    return pending_work(spec, runtime, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b'{"pending": 0}', {}),
        (200, b'{"pending": 3}', {"call-backs": 3}),
        (200, b'{"pending": -3}', {"call-backs": UNASKED}),
        (200, b'{"pending": true}', {"call-backs": UNASKED}),
        (200, b'{"pending": "0"}', {"call-backs": UNASKED}),
        (200, b"{}", {"call-backs": UNASKED}),
        (200, b"[]", {"call-backs": UNASKED}),
        (200, b"nothing", {"call-backs": UNASKED}),
        (503, b'{"pending": 0}', {"call-backs": UNASKED}),
    ],
)
def test_a_services_own_word(
    where: Address, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, told: dict[str, int]
) -> None:
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "body", body)
    assert asked(where) == told


def test_no_answer_is_not_nothing() -> None:
    assert asked(Address("127.0.0.1", 9)) == {"call-backs": UNASKED}
