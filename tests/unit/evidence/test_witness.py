"""Witness logs: fetched whole or not at all; as columns that do not depend on the values' looks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.final_state import collect_witness
from harness.evidence.views import open_evidence
from tests.histories.history import base, write_folder

BODIES = {
    "/log": (200, b'{"a":1}\n{"a":2}\n', None),
    "/empty": (200, b"", None),
    "/torn": (200, b'{"a":1}\n{"a"', None),
    "/short": (200, b'{"a":1}\n', 100),
    "/error": (500, b"no\n", None),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body, length = BODIES[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_log_comes_as_it_is(url: str, tmp_path: Path) -> None:
    file = tmp_path / "w" / "psp.jsonl"
    assert collect_witness(f"{url}/log", file) == 2 and file.read_bytes() == BODIES["/log"][1]
    assert collect_witness(f"{url}/empty", file) == 0 and file.read_bytes() == b""


@pytest.mark.parametrize("path", ["/torn", "/short", "/error"])
def test_half_a_log_is_none(url: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(EnvironmentBroken, match=path):
        collect_witness(f"{url}{path}", tmp_path / "psp.jsonl")
    assert not list(tmp_path.iterdir())


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBroken, match="cannot be collected"):
        collect_witness("http://127.0.0.1:1/log", tmp_path / "psp.jsonl", timeout_s=2)


def test_columns(tmp_path: Path) -> None:
    """Text stays text, whatever it looks like; named columns are there when no line has them."""
    folder = write_folder(base(), tmp_path)
    spec = folder.read_target()
    unnamed = [
        log.model_copy(update={"columns": {}}) if log.service == "gateway" else log
        for log in spec.witness_logs
    ]
    file = folder.path / "target.json"
    file.write_text(spec.model_copy(update={"witness_logs": tuple(unnamed)}).model_dump_json())
    lines = [
        {
            "seq": 1,
            "at_ns": 5,
            "witness": "gateway",
            "event": "delivered",
            "recipient": "2026-01-01",
            "odd": 7,
        },
        {
            "seq": 2,
            "at_ns": 6,
            "witness": "gateway",
            "event": "delivered",
            "event_id": "123",
            "more": {"x": 1},
        },
    ]
    (folder.witness / "gateway.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder.witness / "psp-a.jsonl").write_text("")
    (folder.witness / "psp-b.jsonl").write_text("")
    with open_evidence(folder) as connection:
        rows = connection.execute(
            "select recipient, event_id, odd from witness.gateway order by seq"
        ).fetchall()
        assert rows == [("2026-01-01", None, 7), (None, "123", None)]
        assert connection.execute("select count(merchant_reference) from witness.psp").fetchone() == (0,)
        types = dict(connection.execute("select column_name, data_type from information_schema.columns "
                                        "where table_name = 'gateway'").fetchall())  # fmt: skip
        assert (types["odd"], types["more"], types["recipient"]) == ("BIGINT", "JSON", "VARCHAR")


def test_instants_have_their_nanoseconds_beside_them(tmp_path: Path) -> None:
    history = base()
    folder = write_folder(history, tmp_path)
    with open_evidence(folder) as connection:
        row = connection.execute(
            "select count(*), bool_and(ns(created_at) = created_at_ns) from payments.payment"
        ).fetchone()
        assert row == (len(history["tables"]["payments.payment"]), True)
        (faults,) = connection.execute("select list(touches order by id) from faults where proved").fetchall()
        assert faults == ([fault["touches"] for fault in history["faults"]],)
