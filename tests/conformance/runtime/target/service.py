"""A service that does what the conformance suite asks of it over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STORE_URL = os.environ.get("STORE_URL", "")
WELL = os.environ.get("WELL", "yes") == "yes"
KEPT = Path(os.environ["DATA_DIR"]) / "notes" if "DATA_DIR" in os.environ else None
leading = False
held: list[socket.socket] = []


def orphan() -> None:
    """A grandchild in a session of its own that ignores SIGTERM: what a careless service leaves."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()


def relay() -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{STORE_URL}/ready", timeout=1) as answer:
            return answer.status, "relayed"
    except (urllib.error.URLError, OSError) as problem:
        return 502, repr(problem)


def write(text: str) -> tuple[int, str]:
    """Have the store note something."""
    try:
        with urllib.request.urlopen(f"{STORE_URL}/note/{text}", timeout=1) as answer:
            return answer.status, "written"
    except (urllib.error.URLError, OSError) as problem:
        return 502, repr(problem)


def resolve(name: str) -> tuple[int, str]:
    """``host:port`` as this service finds it."""
    host, _, port = name.partition(":")
    return 200, f"{socket.gethostbyname(host)}:{port}"


def reach(name: str) -> tuple[int, str]:
    """Whether ``host:port`` can be connected to from here."""
    host, _, port = name.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError as problem:
        return 502, repr(problem)
    return 200, "reached"


def outlast(name: str) -> tuple[int, str]:
    """How many seconds the other side keeps a connection to ``host:port`` open, at most 8."""
    host, _, port = name.partition(":")
    begun = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=8) as connection:
            connection.recv(1)
    except OSError as problem:
        return 502, repr(problem)
    return 200, str(time.monotonic() - begun)


def hog(megabytes: str) -> tuple[int, str]:
    """Ask for that much memory and touch it, for as long as the request lasts."""
    block = bytearray(int(megabytes) << 20)
    return 200, str(len(block))


def fork_hog(megabytes: str) -> tuple[int, str]:
    """Have a child do it; what became of the child."""
    child = os.fork()
    if child == 0:
        bytearray(int(megabytes) << 20)
        os._exit(0)
    return 200, str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def burn(seconds: str) -> tuple[int, str]:
    """Keep one processor busy for so long."""
    until = time.monotonic() + float(seconds)
    turns = 0
    while time.monotonic() < until:
        turns += 1
    return 200, str(turns)


def hold() -> tuple[int, str]:
    host, _, port = STORE_URL.removeprefix("http://").partition(":")
    held.append(socket.create_connection((host, int(port)), timeout=1))
    return 200, "held"


def lead(on: str) -> tuple[int, str]:
    global leading
    leading = on == "yes"
    return 200, on


def note(text: str) -> tuple[int, str]:
    assert KEPT is not None
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with KEPT.open("a") as notes:
        notes.write(text)
    return 200, KEPT.read_text()


def die(code: str) -> tuple[int, str]:
    print(f"dying with {code}, as told", flush=True)
    os._exit(int(code))


def deaf(_: str) -> tuple[int, str]:
    """Ignore SIGTERM from now on; signals belong to the main thread, so that is what does it."""
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(0.1)
    return 200, "deaf"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as services' do

    def do_GET(self) -> None:
        path, _, argument = self.path.lstrip("/").partition("/")
        simple = {
            "ready": lambda: (200, "ready") if WELL else (503, "not well"),
            "lead": lambda: (200 if leading else 503, ""),
            "relay": relay,
            "hold": hold,
            "env": lambda: (200, json.dumps(dict(os.environ))),
        }
        with_argument = {
            "be": lead,
            "note": note,
            "write": write,
            "resolve": resolve,
            "reach": reach,
            "outlast": outlast,
            "hog": hog,
            "fork-hog": fork_hog,
            "burn": burn,
            "die": die,
            "deaf": deaf,
        }
        if path in simple:
            status, text = simple[path]()
        elif path in with_argument:
            status, text = with_argument[path](argument)
        else:
            status, text = 404, self.path
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    host, _, port = os.environ["LISTEN"].rpartition(":")
    for _ in range(int(os.environ.get("CHILDREN", "0"))):
        orphan()
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGUSR1, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_IGN))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening, process {os.getpid()}", flush=True)
    while not ended.wait(0.1):
        pass
    print("ended in good order", flush=True)


if __name__ == "__main__":
    main()
