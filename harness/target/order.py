"""Doing something for many names at once, each after those it depends on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.errors import Aborted

WAKE_S = 0.1


class GaveUp(Exception):
    """Another one failed first, or nobody wants it any more; this is not the error to show."""


def never() -> bool:
    return False


def in_order(
    depends_on: Mapping[str, Iterable[str]],
    work: Callable[[str, Callable[[], bool]], None],
    stopping: Callable[[], bool] = never,
) -> None:
    """Call ``work(name, gave_up)`` for every name, in parallel, each after its dependencies are done.

    The first failure is raised; ``gave_up()`` tells the others that there was one, or that ``stopping()``
    asks for the end. That end is raised as Aborted.
    """
    if not depends_on:
        return
    done = {name: threading.Event() for name in depends_on}
    failed = threading.Event()

    def gave_up() -> bool:
        return failed.is_set() or stopping()

    def one(name: str) -> None:
        try:
            for needed in depends_on[name]:
                while not done[needed].wait(WAKE_S):
                    if gave_up():
                        raise GaveUp
            if stopping():
                raise GaveUp
            work(name, gave_up)
            done[name].set()
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(depends_on), thread_name_prefix="deploy") as pool:
        try:
            futures = [pool.submit(one, name) for name in depends_on]
            problems = [problem for future in futures if (problem := future.exception()) is not None]
        except BaseException:  # Ctrl-C here, in the main thread: let the others end
            failed.set()
            raise
    problems.sort(key=lambda problem: isinstance(problem, GaveUp))
    if problems and isinstance(problems[0], GaveUp):
        raise Aborted("stopped before it was ready") from problems[0]
    if problems:
        raise problems[0]
