"""Open loop on Locust: arrivals go out at their instants, whatever the answers do.

Locust's users stay Locust's: each runs a task, has its own HTTP session, fills Locust's statistics.
The task takes one arrival and performs it. A scheduler greenlet hands each arrival, at its instant,
to the user that became idle last (so that few connections stay warm); when too few are idle, more
are started. At the bound of the pool an arrival waits its turn, nothing is dropped, and its latency
counts from the intended time all the same. One that still waits when load ends is recorded as unknown
with 0 attempts.

Lag is the time from the intended instant to the start of the operation, less what an arrival waited
because it found the pool at its bound with every user busy: that is the target's doing.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping

import gevent
from gevent.event import AsyncResult, Event
from locust.env import Environment

from harness.load.config import OP_DEADLINE_S
from harness.load.figures import SECOND_NS
from harness.load.recorder import Recorder, Tally, unsent_row
from harness.load.schedule import Arrival, Repeat, arrivals
from harness.load.sessions import UnknownEntry
from harness.load.workload import Op, Operation, Workload
from harness.plan import LoadPlan

IDLE_WANTED = 16  # more users are started when fewer than this are idle
FIRST_USERS = 64
KEPT_CONNECTED = 200  # idle users beyond this give their connection back
STOP_GRACE_S = OP_DEADLINE_S + 0.5
SHOWN_ERRORS = 20
log = logging.getLogger(__name__)


class Clock:
    """Epoch nanoseconds that never step: the wall clock once, the monotonic one from there."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._offset_ns


class Engine:
    """Drives one run. ``on_bug`` is called when the locustfile itself is broken; it does not return."""

    def __init__(
        self,
        plan: LoadPlan,
        workload: type[Workload],
        host_url: str,
        entries: Mapping[str, str],
        max_users: int,
        clock: Clock,
        on_bug: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._workload = workload
        self._max_users = max_users
        self._clock = clock
        self._on_bug = on_bug
        self._methods: Mapping[str, tuple[Operation, Repeat | None]] = workload.operations()
        self._idle: list[tuple[Workload, AsyncResult]] = []
        self._queue: deque[tuple[Arrival, int | None]] = deque()
        self._low = Event()
        self._broken = 0
        self._t0_ns = 0
        self.tally = Tally()
        self._recorder: Recorder | None = None
        self.environment = Environment(user_classes=[workload], host=host_url)
        self._runner = self.environment.create_local_runner()
        workload.dispatcher = self
        workload.entries = entries
        self.stop_requested = AsyncResult()

    def arm(self) -> None:
        """Start Locust with its first users."""
        first = min(FIRST_USERS, self._max_users)
        self._runner.start(first, spawn_rate=first)
        while len(self._idle) < first:
            gevent.sleep(0.01)
        self.tally.users = first

    def run(self, t0_ns: int, recorder: Recorder) -> str:
        """Send the load; returns why it ended, when everything in flight has ended too."""
        self._t0_ns = t0_ns
        self._recorder = recorder
        scheduler = gevent.spawn(self._schedule)
        grower = gevent.spawn(self._grow)
        reason = str(self.stop_requested.get())
        scheduler.kill()
        deadline = time.monotonic() + STOP_GRACE_S
        while (self.tally.in_flight or self._queue) and time.monotonic() < deadline:
            gevent.sleep(0.01)
        grower.kill()
        self._give_up_queue(recorder)
        self._runner.quit()
        total = self._runner.stats.total
        log.info("Locust counted %d requests, %d of them failures", total.num_requests, total.num_failures)
        return reason

    # --- the schedule ---------------------------------------------------------------------------
    def _schedule(self) -> None:
        repeats = {kind: repeat for kind, (_, repeat) in self._methods.items() if repeat}
        try:
            for arrival in arrivals(self._plan, repeats):
                self._wait_until(self._t0_ns + arrival.offset_ns)
                self._offer(arrival)
            self._wait_until(self._t0_ns + int(self._plan.max_duration_s * 1e9))
            self.stop_requested.set("max_duration")
        except Exception:
            self._on_bug(f"the schedule broke off\n{traceback.format_exc()}")

    def _wait_until(self, at_ns: int) -> None:
        """Sleep until then; late as it may be, the others get their turn."""
        while (left_ns := at_ns - self._clock.now_ns()) > 0:
            gevent.sleep(left_ns / 1e9)
        if left_ns < -SECOND_NS // 1000:
            gevent.sleep(0)

    def _offer(self, arrival: Arrival) -> None:
        tally = self.tally
        tally.scheduled += 1
        tally.intended[arrival.offset_ns // SECOND_NS] += 1
        if self._idle:
            _, inbox = self._idle.pop()
            inbox.set((arrival, None))
        else:
            exhausted = tally.users >= self._max_users
            tally.waited += exhausted
            self._queue.append((arrival, self._clock.now_ns() if exhausted else None))
            tally.waiting = len(self._queue)
        if len(self._idle) < IDLE_WANTED:
            self._low.set()

    def _grow(self) -> None:
        """Start users one by one, letting the others run in between."""
        while True:
            self._low.wait()
            self._low.clear()
            while len(self._idle) < IDLE_WANTED and self.tally.users < self._max_users:
                self._workload(self.environment).start(self._runner.user_greenlets)
                self.tally.users += 1
                gevent.sleep(0)

    def _give_up_queue(self, recorder: Recorder) -> None:
        """What was due and found no user has a row like everything else that was due."""
        now_ns = self._clock.now_ns()
        for arrival, queued_at_ns in self._queue:
            intended_ns = self._t0_ns + arrival.offset_ns
            queued_ns = 0 if queued_at_ns is None else now_ns - queued_at_ns
            self.tally.lags_ns.append(now_ns - intended_ns - queued_ns)
            recorder.append(unsent_row(arrival, intended_ns, now_ns, queued_ns))
        self._queue.clear()
        self.tally.waiting = 0

    # --- the users ------------------------------------------------------------------------------
    def serve(self, user: Workload) -> None:
        """One turn of a user's task: take the next arrival, or wait for one, and perform it."""
        if self._queue:
            arrival, queued_at_ns = self._queue.popleft()
            self.tally.waiting = len(self._queue)
        else:
            if len(self._idle) >= KEPT_CONNECTED:
                user.disconnect()
            inbox = AsyncResult()
            self._idle.append((user, inbox))
            arrival, queued_at_ns = inbox.get()
        self._perform(user, arrival, queued_at_ns)

    def _perform(self, user: Workload, arrival: Arrival, queued_at_ns: int | None) -> None:
        tally = self.tally
        intended_ns = self._t0_ns + arrival.offset_ns
        invoked_ns = self._clock.now_ns()
        tally.sent += 1
        tally.in_flight += 1
        queued_ns = 0 if queued_at_ns is None else invoked_ns - queued_at_ns
        tally.lags_ns.append(invoked_ns - intended_ns - queued_ns)
        op = Op(user, arrival, intended_ns, invoked_ns, queued_ns=queued_ns)
        try:
            self._methods[arrival.kind][0](user, op)
        except UnknownEntry as error:
            self._on_bug(f"operation {op.kind!r}: {error}")
        except gevent.GreenletExit:
            op.interrupt("still under way when load ended")
            raise
        except Exception as error:
            self._explain(op, error)
        finally:
            assert self._recorder is not None, "operations are performed while run() runs"
            self._recorder.append(op.row(self._clock.now_ns()))
            tally.in_flight -= 1

    def _explain(self, op: Op, error: Exception) -> None:
        """An operation's method raised. Before it sent anything that is the locustfile's own fault;
        after, the target may have answered nonsense: recorded, and nonsense is never ok."""
        if op.attempts == 0:
            self._on_bug(f"operation {op.kind!r} failed before it sent anything\n{traceback.format_exc()}")
        op.cannot_read(f"locustfile: {type(error).__name__}: {str(error)[:120]}")
        self._broken += 1
        if self._broken <= SHOWN_ERRORS:
            log.warning("operation %s (%s): %s", op.id, op.kind, traceback.format_exc())
