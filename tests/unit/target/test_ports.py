"""Blocks of ports that two runs cannot share."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.errors import EnvironmentBroken
from harness.target import ports
from harness.target.ports import BLOCK, PortBlock


def test_two_runs_of_one_name_get_different_blocks() -> None:
    one, other = PortBlock.reserve(20, "same"), PortBlock.reserve(20, "same")
    try:
        mine, theirs = {one.take() for _ in range(20)}, {other.take() for _ in range(20)}
        assert len(mine) == len(theirs) == 20 and not mine & theirs
    finally:
        one.release()
        other.release()


def test_a_port_in_use_is_left_out_and_a_given_back_block_comes_again() -> None:
    first = PortBlock.reserve(1, "again")
    port = first.take()
    first.release()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        second = PortBlock.reserve(1, "again")
        assert second.take() == port + 1
        second.release()


def test_the_kernels_own_range_is_avoided(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "range"
    own.write_text("32768\t60999\n")
    monkeypatch.setattr(ports, "_EPHEMERAL", own)
    block = PortBlock.reserve(BLOCK // 2, "x")
    assert all(not 32768 <= block.take() <= 60999 for _ in range(BLOCK // 2))
    block.release()


def test_too_many_ports() -> None:
    with pytest.raises(EnvironmentBroken, match="needs 500 ports; at most 127"):
        PortBlock.reserve(500, "x")
