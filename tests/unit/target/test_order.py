"""Things done at once, each after what it depends on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from harness.errors import Aborted
from harness.target.order import GaveUp, in_order


def test_each_after_its_dependencies_and_the_rest_at_once() -> None:
    done: list[str] = []
    together = threading.Barrier(2, timeout=5)

    def work(name: str, gave_up: Callable[[], bool]) -> None:
        if name in ("b", "c"):
            together.wait()  # passes only when both run at the same time
        done.append(name)

    in_order({"d": ("b", "c"), "b": ("a",), "c": ("a",), "a": ()}, work)
    assert done[0] == "a" and done[-1] == "d" and len(done) == 4


def test_the_first_failure_is_told_and_the_others_give_up() -> None:
    started: list[str] = []

    def work(name: str, gave_up: Callable[[], bool]) -> None:
        started.append(name)
        if name == "bad":
            raise ValueError("broken")
        while not gave_up():
            time.sleep(0.01)
        raise GaveUp

    with pytest.raises(ValueError, match="broken"):
        in_order({"slow": (), "bad": (), "after": ("slow",)}, work)
    assert "after" not in started


def test_whoever_waits_gives_up_when_the_run_is_stopped() -> None:
    stopping = threading.Event()
    started: list[str] = []

    def work(name: str, gave_up: Callable[[], bool]) -> None:
        started.append(name)
        stopping.set()
        while not gave_up():
            time.sleep(0.01)
        raise GaveUp

    with pytest.raises(Aborted):
        in_order({"hangs": (), "after": ("hangs",)}, work, stopping.is_set)
    assert started == ["hangs"]
