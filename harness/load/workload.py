"""What a locustfile is written with: the only part of the harness that a target imports.

    class BillingWorkload(Workload):
        @operation("topup")
        def topup(self, op: Op) -> None:
            answer = op.request("POST", "/topups", json={...}, headers={"Idempotency-Key": op.key})
            op.ask("GET", "/status", via="selfcare")  # another of the target's entries

A ``Workload`` is a Locust user with a task that takes the next arrival that is due and performs it.
One method per kind of operation; what it does through ``op`` is counted, judged and recorded.
Importing this module imports Locust, which patches the process: only the load child does it.
"""

from __future__ import annotations

import json as jsonlib
import random
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import gevent
from gevent import Timeout
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FastHttpSession, LocustBadStatusCode
from locust.env import Environment

from harness.evidence.model import Outcome
from harness.load.config import OP_DEADLINE_S
from harness.load.outcome import Answer, judge, may_retry, no_answer, over_attempts
from harness.load.schedule import Arrival, Repeat
from harness.load.sessions import Sessions, close_kept

__all__ = ["Answer", "Arrival", "Op", "Workload", "operation"]

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 2.0
ATTEMPTS = 2
BACK_OFF_S = 0.2  # the mean of the first pause is half of it: full jitter
IN_PROGRESS = 409  # the same key is being worked on: asked again at once, it would be still
BACK_OFF_MOST_S = 1.0
LEAST_S = 0.05  # an attempt with less time than this is not begun

Operation = Callable[[Any, "Op"], None]


def operation(
    kind: str, *, repeats: str | None = None, min_age_s: float = 0.0
) -> Callable[[Operation], Operation]:
    """Declare the method that performs operations of ``kind``.

    ``repeats``: it comes back to an earlier operation of that kind (``op.earlier``), which was due at
    least ``min_age_s`` before, with the same key and subscriber; while there is none, an operation
    of that other kind takes its place.
    """

    def declare(method: Operation) -> Operation:
        repeat = Repeat(repeats, min_age_s) if repeats else None
        method.__dict__["operation"] = (kind, repeat)
        return method

    return declare


class Op:
    """One logical operation under way. All its attempts share its key."""

    def __init__(
        self, user: Workload, arrival: Arrival, intended_ns: int, invoked_ns: int, *, queued_ns: int = 0
    ) -> None:
        self._user = user
        self._arrival = arrival
        self._deadline_s = time.monotonic() + OP_DEADLINE_S
        self._outcomes: list[Outcome] = []
        self._concluded: Outcome | None = None
        self._errors: list[str] = []
        self._rng: random.Random | None = None
        self._amount_minor: int | None = None
        self._ref: str | None = None
        self._result: int | None = None
        self._detail: dict[str, Any] = {}
        self._status: int | None = None
        self.intended_ns = intended_ns
        self.invoked_ns = invoked_ns
        self.queued_ns = queued_ns  # waited for a user of the full pool
        self.attempts = 0

    @property
    def seq(self) -> int:
        return self._arrival.seq

    @property
    def id(self) -> str:
        return self._arrival.id

    @property
    def kind(self) -> str:
        return self._arrival.kind

    @property
    def key(self) -> str:
        return self._arrival.key

    @property
    def subscriber(self) -> int:
        return self._arrival.subscriber

    @property
    def amount_minor(self) -> int:
        """The amount drawn for it. It is recorded only when ``set_amount`` says it was used."""
        return self._arrival.amount_minor

    @property
    def arrival(self) -> Arrival:
        return self._arrival

    @property
    def earlier(self) -> Arrival:
        """The arrival this one comes back to. Raises LookupError when the kind ``repeats`` nothing."""
        if self._arrival.earlier is None:
            raise LookupError(f"operations of kind {self.kind!r} do not repeat another kind")
        return self._arrival.earlier

    def come_back_to(self, other: Arrival) -> None:
        """Repeat ``other`` instead of the arrival the schedule chose: its key, its subscriber.

        For an operation that makes sense only after what has really happened to the one it repeats.
        """
        self._arrival = replace(self._arrival, key=other.key, subscriber=other.subscriber, earlier=other)

    def act_for(self, subscriber: int) -> None:
        """Be about another subscriber than the one drawn: for what only some of them can do."""
        self._arrival = replace(self._arrival, subscriber=subscriber)

    def take_key(self, key: str) -> None:
        """Another key: for what comes back to an earlier operation and is no repetition of its request."""
        self._arrival = replace(self._arrival, key=key)

    @property
    def rng(self) -> random.Random:
        """This operation's own chance: nothing that other operations do moves it."""
        if self._rng is None:
            self._rng = self._arrival.rng()
        return self._rng

    @property
    def remaining_s(self) -> float:
        """Seconds until the operation's deadline."""
        return self._deadline_s - time.monotonic()

    @property
    def outcome(self) -> Outcome:
        return self._concluded or over_attempts(self._outcomes)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        text: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = READ_TIMEOUT_S,
        attempts: int = ATTEMPTS,
        pending: Container[int] = (),
        via: str | None = None,
    ) -> Answer:
        """Ask the target to do the operation; the answers decide its outcome.

        Tried again, with full jitter, only while nothing is known and ``attempts`` in all (over the
        operation) are not used up. ``timeout_s`` bounds one attempt, connecting included.
        ``pending``: statuses that say that it is under way. ``via``: by which of the target's ``entries``,
        unless by the main one; UnknownEntry ends the run. The body is ``json``, or ``text`` as it is (of what
        kind, ``headers`` tell). Returns the last attempt's answer.
        """
        session = self._user.sessions.by(via)
        body = text if json is None else jsonlib.dumps(json)
        while True:
            self.attempts += 1
            answer = self._send(session, method, path, body, headers, timeout_s, self.kind, pending)
            self._outcomes.append(answer.outcome)
            self._status = answer.status
            if answer.error:
                self._errors.append(answer.error)
            if not may_retry(answer) or self.attempts >= attempts or not self._back_off(answer.status):
                return answer

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = READ_TIMEOUT_S,
        via: str | None = None,
    ) -> Answer:
        """A question by the way, once: neither an attempt nor weighed in the outcome. ``via`` as above."""
        name = f"{self.kind} (question)"
        return self._send(self._user.sessions.by(via), method, path, None, headers, timeout_s, name, ())

    def pause(self, seconds: float) -> bool:
        """Sleep; False, at once, when the deadline does not leave time for it and an attempt."""
        if self.remaining_s < seconds + LEAST_S:
            return False
        gevent.sleep(seconds)
        return True

    def conclude(self, outcome: Outcome, why: str | None = None) -> None:
        """Set the outcome itself, for the operation has definite news of it (a settled payment)."""
        self._concluded = outcome
        if why:
            self._errors.append(why)

    def set_amount(self, amount_minor: int) -> None:
        self._amount_minor = _whole("amount", amount_minor)

    def set_ref(self, ref: str) -> None:
        """What the system called the thing (a payment id)."""
        self._ref = str(ref)

    def set_result(self, result: int) -> None:
        """The number that was read (a balance, minor units)."""
        self._result = _whole("result", result)

    def set_detail(self, detail: Mapping[str, Any]) -> None:
        """Add to what is recorded beside the columns; values must fit into JSON."""
        self._detail.update(detail)

    def interrupt(self, error: str) -> None:
        """It ended before its time: unknown, unless an answer or a conclusion had come already."""
        if self._concluded is None and "ok" not in self._outcomes:
            self._concluded = "unknown"
        self._errors.append(error)

    def cannot_read(self, error: str) -> None:
        """What was answered makes no sense: an ok that could not be read says nothing for certain."""
        if self.outcome == "ok":
            self._concluded = "unknown"
        self._errors.append(error)

    def row(self, completed_ns: int) -> tuple[Any, ...]:
        """In the order of OPERATION_COLUMNS."""
        arrival = self._arrival
        return (
            arrival.seq,
            self.id,
            arrival.kind,
            arrival.key,
            arrival.subscriber,
            self._amount_minor,
            self.intended_ns,
            self.invoked_ns,
            completed_ns,
            self.attempts,
            self.outcome,
            self._status,
            "; ".join(self._errors) or None,
            self._ref,
            self._result,
            jsonlib.dumps(self._detail, sort_keys=True) if self._detail else None,
            self.queued_ns,
        )

    def _back_off(self, status: int | None) -> bool:
        most_s = min(BACK_OFF_MOST_S, BACK_OFF_S * 2 ** (self.attempts - 1))
        least_s = most_s / 2 if status == IN_PROGRESS else 0.0
        return self.pause(self._arrival.rng(f"retry {self.attempts}").uniform(least_s, most_s))

    def _send(
        self,
        session: FastHttpSession,
        method: str,
        path: str,
        body: str | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        name: str,
        pending: Container[int],
    ) -> Answer:
        limit_s = max(LEAST_S, min(timeout_s, self.remaining_s))
        sent = {**({"Content-Type": "application/json"} if body else {}), **(headers or {})}
        timeout = Timeout(limit_s)
        timeout.start()
        try:
            with session.request(
                method, path, name=name, data=body, headers=sent, catch_response=True
            ) as response:
                whole = _answer(response, pending)
        except (Timeout, Exception) as error:
            # Whatever the client trips over, the request may have had its effect: unknown.
            if isinstance(error, Timeout) and error is not timeout:
                raise
            whole = no_answer(describe(error))
        finally:
            timeout.close()
        if whole.status is None:
            close_kept(session)
        return whole


def _answer(response: Any, pending: Container[int]) -> Answer:
    """Judge what Locust's client brought; a body that broke off is no answer, whatever its status."""
    error = response.request_meta["exception"] or getattr(response, "error", None)
    if response.status_code == 0 or (error is not None and not isinstance(error, LocustBadStatusCode)):
        return no_answer(describe(error))
    retry_after = response.headers.get("retry-after")
    if isinstance(retry_after, list):  # sent twice
        retry_after = ", ".join(retry_after)
    return judge(response.status_code, response.content or b"", retry_after, pending)


def describe(error: BaseException | None) -> str:
    """One short line of an error, without addresses that differ from one attempt to the next."""
    original = getattr(error, "original", None)
    error = original if isinstance(original, BaseException) else error
    if isinstance(error, (Timeout, TimeoutError)):
        return "timeout"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {str(error)[:120]}"


def _whole(name: str, value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"the {name} {value!r} is not a whole number")
    return value


class Dispatcher(Protocol):
    """Who hands the arrivals to the users (``harness.load.engine``)."""

    def serve(self, user: Workload) -> None: ...


class Workload(FastHttpUser):
    """Base of a target's locustfile class: performs arrivals, one at a time, over one connection a way in."""

    abstract = True
    network_timeout = OP_DEADLINE_S  # ``timeout_s`` of each request is what bounds it
    connection_timeout = CONNECT_TIMEOUT_S
    max_redirects = 0
    max_retries = 0
    insecure = False
    concurrency = 1
    dispatcher: ClassVar[Dispatcher]

    entries: ClassVar[Mapping[str, str]] = {}  # the target's other ways in: name -> URL

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.sessions = Sessions(self, self.entries)

    @task
    def one_arrival(self) -> None:
        self.dispatcher.serve(self)

    def disconnect(self) -> None:
        """Close the kept connections; the next request opens another."""
        self.sessions.close()

    @classmethod
    def operations(cls) -> dict[str, tuple[Operation, Repeat | None]]:
        """The declared operations by kind. Raises ValueError when two methods declare the same."""
        found: dict[str, tuple[Operation, Repeat | None]] = {}
        for name in dir(cls):
            method = getattr(cls, name)
            declared = getattr(method, "operation", None)
            if callable(method) and isinstance(declared, tuple):
                kind, repeat = declared
                if kind in found:
                    raise ValueError(f"{cls.__name__} declares the operation {kind!r} twice")
                found[kind] = (method, repeat)
        return found
