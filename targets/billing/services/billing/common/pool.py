"""The connections of one ``Database``: who has them, who waits for one, and how more are made.

Callers never connect. Who finds none idle waits in line for the next that is given back or made; tasks of
the pool make them, as many as are waited for. Nobody's patience cuts an attempt short: the next in line
would only begin another, and a host that swallows what it is sent would get one from each request.

Each host is tried by itself, so that a silent one holds nothing up at the others: by several attempts at
once while they succeed, else by one, with a pause after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from billing.common.backoff import backoff_s
from billing.common.hosts import Connection, DatabaseUrl, connect, suits
from billing.common.log import Log
from billing.common.metrics import Metrics

AT_ONCE = 4  # attempts at a host that is known to be well
TRY_AGAIN_S = 0.05
TRY_AGAIN_MOST_S = 0.5  # so long may a new primary wait for being found
# So long does a connection to the primary wait for one to the standby, where that is preferred.
SPARE_S = 0.15


@dataclass
class Pooled:
    """A connection; ``born`` by the monotonic clock."""

    connection: Connection
    generation: int
    born: float


class _Host:
    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.attempts: set[asyncio.Task[None]] = set()  # also those that pause after a failure
        self.failures = 0  # in a row; an answer in a role of no use is one, too
        self.proven = False  # the last attempt was of use, and nothing was suspected since

    def has_failed(self) -> None:
        self.failures += 1
        self.proven = False

    def has_answered(self) -> None:
        self.failures = 0
        self.proven = True


class Pool:
    """At most ``size`` connections, none older than ``age_s`` when it is handed out."""

    def __init__(
        self,
        url: DatabaseUrl,
        *,
        size: int,
        connect_s: float,
        age_s: float,
        settings: Mapping[str, str],
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._url = url
        self._hosts = [_Host(address) for address in url.hosts]
        self._size = size
        self._connect_s = connect_s
        self._age_s = age_s
        self._settings = dict(settings)
        self._metrics = metrics
        self._log = log
        self._held = 0  # handed out or idle
        self._idle: list[Pooled] = []  # empty while somebody waits
        self._waiting: deque[asyncio.Future[Pooled]] = deque()
        self._generation = 0
        self._preferred_made = 0  # connections of just the role that is wanted
        self._closed = False

    # -- for callers --------------------------------------------------------------------------

    async def take(self, patience_s: float) -> Pooled:
        """An idle connection at once, else the next to be had: first come, first served. Or TimeoutError."""
        if (pooled := self._reuse()) is not None:
            return pooled
        waiter: asyncio.Future[Pooled] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._make_more()
        try:
            async with asyncio.timeout(patience_s):
                return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give_back(waiter.result())  # it came at the very moment
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(waiter)
            raise

    def give_back(self, pooled: Pooled, *, clean: bool = True) -> None:
        if clean and self._is_fresh(pooled) and not pooled.connection.is_in_transaction():
            self._hand_on(pooled)
        else:
            self._drop(pooled)
            self._make_more()

    def suspect_all(self) -> int:
        """No connection made, or begun, before now is handed out a second time. Gives the new generation."""
        self._generation += 1
        for host in self._hosts:
            host.proven = False
        return self._generation

    def close(self) -> None:
        """For good. What is handed out is closed when it comes back."""
        self._closed = True
        self._generation += 1
        while self._idle:
            self._drop(self._idle.pop())
        for host in self._hosts:
            for attempt in host.attempts:
                attempt.cancel()

    # -- what there is ------------------------------------------------------------------------

    def _reuse(self) -> Pooled | None:
        while self._idle:
            pooled = self._idle.pop()
            if self._is_fresh(pooled):
                return pooled
            self._drop(pooled)
        return None

    def _is_fresh(self, pooled: Pooled) -> bool:
        young = time.monotonic() - pooled.born < self._age_s
        return young and pooled.generation == self._generation and not pooled.connection.is_closed()

    def _hand_on(self, pooled: Pooled) -> None:
        """To the first who still waits, else to the idle ones."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(pooled)
                return
        self._idle.append(pooled)

    def _drop(self, pooled: Pooled) -> None:
        self._held -= 1
        pooled.connection.terminate()

    # -- how more are made --------------------------------------------------------------------

    def _make_more(self) -> None:
        """Begin the attempts that are waited for and that there is room for."""
        if self._closed:
            return
        wanted = min(len(self._waiting), self._size - self._held)
        for host in self._hosts:
            most = AT_ONCE if host.proven else 1
            while len(host.attempts) < min(wanted, most):
                attempt = asyncio.create_task(self._attempt(host))
                host.attempts.add(attempt)
                attempt.add_done_callback(partial(self._attempt_ended, host))

    def _attempt_ended(self, host: _Host, attempt: asyncio.Task[None]) -> None:
        host.attempts.discard(attempt)
        self._make_more()

    async def _attempt(self, host: _Host) -> None:
        """Make one connection; when it comes to nothing, pause before the next attempt can begin.

        All who wait share the pauses. Each attempt costs the standby, which has enough to do, a new process.
        """
        generation = self._generation
        try:
            connection = await connect(
                self._url, host.address, timeout_s=self._connect_s, settings=self._settings
            )
        except Exception as error:
            self._metrics.add("database.connect_failures")
            if host.failures == 0:
                self._log("database.connect_failed", host=host.address, error=error)
            await self._pause(host)
            return
        self._metrics.add("database.connects")
        made = Pooled(connection, generation, time.monotonic())
        if suits(connection, self._url.wanted):
            host.has_answered()
            self._preferred_made += 1
            self._arrive(made)
        elif self._url.wanted == "prefer-standby":
            host.has_answered()
            await self._arrive_as_spare(made, host)
        else:
            connection.terminate()
            await self._pause(host)

    async def _pause(self, host: _Host) -> None:
        host.has_failed()
        await asyncio.sleep(backoff_s(min(host.failures, 10), base_s=TRY_AGAIN_S, cap_s=TRY_AGAIN_MOST_S))

    def _arrive(self, made: Pooled) -> None:
        """Who wanted it may have got another host's by now, or given up: then it is kept if there is room."""
        if self._held < self._size:
            self._held += 1
            self._hand_on(made)
        else:
            made.connection.terminate()

    async def _arrive_as_spare(self, made: Pooled, host: _Host) -> None:
        """Kept if none of the preferred role is made within a short grace; a host that fails gets none."""
        preferred_before = self._preferred_made
        self._make_more()  # this host may do several at once now
        try:
            if any(other.failures == 0 for other in self._hosts if other is not host):
                await asyncio.sleep(SPARE_S)
        except asyncio.CancelledError:
            made.connection.terminate()
            raise
        if self._preferred_made == preferred_before:
            self._arrive(made)
        else:
            made.connection.terminate()
