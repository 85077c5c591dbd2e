"""After load: wait until no work is pending. What is still pending at the end is evidence."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.experiment.target import TargetSpec
from harness.run.database import Asker
from harness.target.runtime import Runtime

POLL_S = 0.25
UNASKED = -1  # among the counts: the database could not be asked
QUIET_POLLS = 2  # in a row: work may hop from one table to the next between two looks


def wait_settled(
    spec: TargetSpec,
    runtime: Runtime,
    within_s: float,
    stopping: Callable[[], bool],
    say: Callable[[str], None],
    look: Callable[[], None],
) -> tuple[int | None, dict[str, int]]:
    """(instant at which nothing was pending or None, what is pending by name; -1: could not be asked).

    ``look`` is called before each look at what is pending.
    """
    asker = Asker(spec, runtime)
    deadline = time.monotonic() + within_s
    quiet, pending = 0, {}
    next_word = time.monotonic() + 5
    try:
        while True:
            look()
            pending = pending_work(spec, asker)
            quiet = 0 if pending else quiet + 1
            if quiet >= QUIET_POLLS:
                return time.time_ns(), {}
            if time.monotonic() >= deadline or stopping():
                return None, pending
            if time.monotonic() >= next_word:
                next_word += 5
                say("still pending: " + ", ".join(f"{name} {count}" for name, count in pending.items()))
            time.sleep(POLL_S)
    finally:
        asker.close()


def pending_work(spec: TargetSpec, asker: Asker) -> dict[str, int]:
    """What is pending now, by name; -1: could not be asked."""
    counts: dict[str, int] = {}
    for query in spec.settled:
        answer = asker.ask(query.sql)
        count = int(str(answer)) if answer is not None else UNASKED
        if count:
            counts[query.name] = count
    return counts
