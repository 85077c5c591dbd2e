"""After load: wait until no work is pending. What is still pending at the end is evidence."""

from __future__ import annotations

import time
from collections.abc import Callable

import requests

from harness import out_of_band
from harness.experiment.target import Pending, TargetSpec
from harness.run.database import Asker
from harness.target.runtime import Runtime

POLL_S = 0.25
PENDING_TIMEOUT_S = 2.0
UNASKED = -1  # among the counts: whoever knows could not be asked
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
            pending = pending_work(spec, runtime, asker)
            quiet = 0 if pending else quiet + 1
            if quiet >= QUIET_POLLS:
                return time.time_ns(), {}
            if time.monotonic() >= deadline or stopping():
                return None, pending
            if pending and time.monotonic() >= next_word:
                next_word += 5
                say("still pending: " + ", ".join(f"{name} {count}" for name, count in pending.items()))
            time.sleep(POLL_S)
    finally:
        asker.close()


def pending_work(spec: TargetSpec, runtime: Runtime, asker: Asker) -> dict[str, int]:
    """What is pending now, by name; -1: could not be asked."""
    counts: dict[str, int] = {}
    for query in spec.settled:
        answer = asker.ask(query.sql)
        count = int(str(answer)) if answer is not None else UNASKED
        if count:
            counts[query.name] = count
    for one in spec.pending:
        if count := _told(runtime, one):
            counts[one.name] = count
    return counts


def _told(runtime: Runtime, one: Pending) -> int:
    """How much is pending by a service's own word; UNASKED for whatever is no such word."""
    url = f"http://{runtime.address(one.service, one.endpoint.port)}{one.endpoint.path}"
    try:
        answer = out_of_band.ask(one.endpoint.method, url, timeout_s=PENDING_TIMEOUT_S)
        count = answer.json()["pending"] if answer.status_code == 200 else UNASKED
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return UNASKED
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else UNASKED
