"""Doing something for many names at once, each after those it depends on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

WAKE_S = 0.1


class GaveUp(Exception):
    """Another one failed first; this is not the error to show."""


def in_order(
    depends_on: Mapping[str, Iterable[str]], work: Callable[[str, Callable[[], bool]], None]
) -> None:
    """Call ``work(name, gave_up)`` for every name, in parallel, each after its dependencies are done.

    The first failure is raised; ``gave_up()`` tells the others that there was one.
    """
    if not depends_on:
        return
    done = {name: threading.Event() for name in depends_on}
    failed = threading.Event()

    def one(name: str) -> None:
        try:
            for needed in depends_on[name]:
                while not done[needed].wait(WAKE_S):
                    if failed.is_set():
                        raise GaveUp
            work(name, failed.is_set)
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
    if problems:
        raise problems[0]
