"""What a ground is chosen by, and what goes on beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from harness.errors import Aborted, EnvironmentBroken
from harness.experiment.vocabulary import RUNTIME_WITH
from harness.run.ground import DockerGround, ProcessGround, _meanwhile
from harness.target.docker.runtime import DockerRuntime
from harness.target.order import never
from harness.target.process import ProcessRuntime

pytestmark = pytest.mark.timeout(20)


def test_a_ground_promises_what_its_runtime_can_do() -> None:
    assert DockerGround.abilities == DockerRuntime.abilities == RUNTIME_WITH.keys()
    assert ProcessGround.abilities == ProcessRuntime.abilities == frozenset()


def until_told(stopping: Callable[[], bool]) -> None:
    while not stopping():
        threading.Event().wait(0.01)
    raise Aborted("stopped before it was ready")


def test_a_stop_is_heard_by_what_goes_on_beside() -> None:
    asked = threading.Event()
    with pytest.raises(Aborted), _meanwhile(until_told, asked.is_set):
        asked.set()


def test_a_failure_ends_what_goes_on_beside_and_is_the_one_that_is_told() -> None:
    with pytest.raises(EnvironmentBroken, match="no subnet"), _meanwhile(until_told, never):
        raise EnvironmentBroken("no subnet")


def test_what_goes_on_beside_is_over_at_the_end_and_its_failure_is_told() -> None:
    begun = threading.Event()

    def fail(stopping: Callable[[], bool]) -> None:
        begun.wait()
        raise EnvironmentBroken("store does not start")

    with pytest.raises(EnvironmentBroken, match="store does not start"), _meanwhile(fail, never):
        begun.set()
