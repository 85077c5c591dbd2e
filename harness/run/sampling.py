"""Samples over time: the target's probes and who holds each role, twice a second, out of band.

A sample is what an outsider saw: the status code (None: no answer) and the body. It is evidence for
invariants such as COM1 (the status page) and LED3 (never two primaries), so a failed look is kept too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import requests

from harness import out_of_band
from harness.errors import EnvironmentBroken
from harness.evidence.model import Sample
from harness.experiment.target import Endpoint, TargetSpec
from harness.target.runtime import Runtime

INTERVAL_S = 0.5
TIMEOUT_S = 1.0
MOST_TEXT = 4000


@dataclass(frozen=True)
class Question:
    """One thing to ask again and again."""

    name: str
    service: str
    endpoint: Endpoint


def questions(spec: TargetSpec) -> tuple[Question, ...]:
    """All probes, and each role of each member (``role:db-primary``)."""
    asked = [Question(probe.name, probe.service, probe.endpoint) for probe in spec.probes]
    for name, role in spec.roles.items():
        asked += [Question(f"role:{name}", member, role.endpoint) for member in role.members]
    return tuple(asked)


class Sampler:
    """One thread per question, so that a hanging answer delays nobody else's."""

    def __init__(self, spec: TargetSpec, runtime: Runtime, sink: Callable[[Sample], None]) -> None:
        self._runtime = runtime
        self._sink = sink
        self._stop = threading.Event()
        self._failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(question,), name=f"sample {question.name}", daemon=True)
            for question in questions(spec)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raises EnvironmentBroken when a question is no longer asked: its samples are then no evidence."""
        if self._failures:
            raise EnvironmentBroken("; ".join(self._failures))

    def stop(self) -> None:
        """Returns when the last answer is in; bounded by the time-out of one question. As ``check``."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join(TIMEOUT_S + INTERVAL_S + 1)
        self.check()

    def _ask(self, question: Question) -> None:
        try:
            self._ask_on(question)
        except Exception as problem:  # silence must not look like a quiet system
            self._failures.append(f"sampling {question.name} broke: {type(problem).__name__}: {problem}")

    def _ask_on(self, question: Question) -> None:
        address = self._runtime.address(question.service, question.endpoint.port)
        url = f"http://{address}{question.endpoint.path}"
        with out_of_band.session() as session:
            while not self._stop.is_set():
                started = time.monotonic()
                self._sink(look(session, question, url))
                self._stop.wait(max(0.05, INTERVAL_S - (time.monotonic() - started)))


def look(session: requests.Session, question: Question, url: str) -> Sample:
    """Ask once. ``at_ns`` is when the question was put."""
    at_ns = time.time_ns()
    try:
        answer = session.request(question.endpoint.method, url, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        return Sample(
            at_ns=at_ns, name=question.name, subject=question.service, value=None, text=type(error).__name__
        )
    text = answer.text[:MOST_TEXT]
    return Sample(
        at_ns=at_ns, name=question.name, subject=question.service, value=answer.status_code, text=text
    )
