"""Steps that are taken however a block ended, and that cannot hide why it ended."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from harness.errors import LedgerquakeError


class Afterwards:
    """A context manager that takes its steps at the end, the last one given first, each whatever became of
    the others. The first thing that was raised, in the block or by a step, goes on; what follows is noted
    on it.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def callback(self, step: Callable[..., object], *args: Any) -> None:
        self._steps.append(lambda: step(*args))

    def __enter__(self) -> Afterwards:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        first = value
        while self._steps:
            try:
                self._steps.pop()()
            except BaseException as problem:
                if first is None:
                    first = problem
                elif (also := _text(problem)) not in _text(first):
                    first.add_note(also)
        if first is not None and first is not value:
            raise first


def _text(problem: BaseException) -> str:
    if isinstance(problem, LedgerquakeError):
        return problem.message
    return f"{type(problem).__name__}: {problem}"
