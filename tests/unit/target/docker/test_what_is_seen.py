"""Reading the engine's and the kernel's words."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from harness.target.docker import kernel
from harness.target.docker.container import Seen, _seen, exit_code, instant_ns
from harness.target.runtime import Address

STATE = {"Running": False, "Paused": False, "Pid": 0, "ExitCode": 0, "OOMKilled": False}
STARTED = "2026-11-23T16:49:59.566504435Z"
ENDED = "2026-11-23T17:50:00.5+01:00"
NEVER = "0001-01-01T00:00:00Z"


def state(**changes: Any) -> dict[str, Any]:
    return {**STATE, "StartedAt": STARTED, "FinishedAt": NEVER, **changes}


@pytest.mark.parametrize(
    ("written", "status", "code"),
    [
        (state(StartedAt=NEVER), "created", None),
        (state(Running=True, Pid=7), "running", None),
        (state(Running=True, Paused=True, Pid=7), "paused", None),
        (state(FinishedAt=ENDED, ExitCode=137), "ended", -9),
        (state(FinishedAt=ENDED, ExitCode=1), "ended", 1),
    ],
)
def test_a_container_as_the_engine_describes_it(
    written: dict[str, Any], status: str, code: int | None
) -> None:
    seen = _seen(written)
    assert (seen.status, seen.code) == (status, code)


def test_instants_keep_their_nanoseconds_and_their_zone() -> None:
    assert instant_ns(STARTED) == 1795452599_566504435
    assert instant_ns(ENDED) == 1795452600_500000000
    assert instant_ns(NEVER) == 0 == instant_ns("")
    assert _seen(state(FinishedAt=ENDED)) == Seen("ended", 0, instant_ns(STARTED), instant_ns(ENDED), 0)


@pytest.mark.parametrize(("shell", "ours"), [(0, 0), (1, 1), (128, 128), (137, -9), (143, -15), (255, 255)])
def test_exit_codes_are_told_as_the_process_runtime_tells_them(shell: int, ours: int) -> None:
    assert exit_code(shell) == ours


def test_connections_are_read_from_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert Address(host, port) not in kernel.remote_ends(os.getpid())
        with socket.create_connection((host, port)):
            assert Address(host, port) in kernel.remote_ends(os.getpid())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:1F90", Address("127.0.0.1", 8080)),
        ("0000000000000000FFFF00001203120A:1538", Address("10.18.3.18", 5432)),
        ("00000000000000000000000001000000:0001", Address("::1", 1)),
    ],
)
def test_addresses_in_the_kernels_notation(text: str, address: Address) -> None:
    assert kernel._remote(text) == address


def test_a_process_that_is_gone_has_nothing() -> None:
    gone = 2**22 + 1
    assert not kernel.alive(gone) and not kernel.frozen(gone) and kernel.usage(gone) is None
    assert kernel.interfaces(gone) == () and kernel.remote_ends(gone) == frozenset()
    assert not kernel.has_address(gone, "127.0.0.1") and kernel.has_address(os.getpid(), "127.0.0.1")
