"""The database as services see it: statements and transactions that survive failovers and black-holed links.

Why not asyncpg's pool: it connects in the caller's time, resets with a round trip per checkout, and keeps
connections that a demoted primary or a silent link has made useless. Here (see ``pool``) a connection that
shows any such sign is cut at once, and with it every connection of the same generation.

What a caller may conclude from an error:
- ``Unavailable``: no connection could be had in time. Nothing was sent, nothing happened.
- anything else during a statement outside a transaction, or at the end of one: it may have happened.
Where a step before it may have had an effect, ``Unavailable`` says too much: see ``after_a_write``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import asyncpg

from billing.common.backoff import RetryBudget, backoff_s
from billing.common.hosts import Connection, DatabaseUrl
from billing.common.log import Log
from billing.common.metrics import Metrics
from billing.common.pool import Pool

Record: TypeAlias = asyncpg.Record
T = TypeVar("T")


class Unavailable(Exception):
    """No connection within the checkout timeout: nothing was sent to the database."""


class CommitInDoubt(Exception):
    """What was being committed, or was written before, may have happened: nobody could be asked."""


@contextmanager
def after_a_write() -> Iterator[None]:
    """For what follows a write: that the database is away now promises nothing about the write."""
    try:
        yield
    except Unavailable as error:
        raise CommitInDoubt(f"after a write: {error}") from error


# The session is of no more use, or should no longer be used.
SPOILED = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
# The server ended the transaction for reasons that lie outside it: run it again.
TRANSIENT = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)


def is_spoiled(error: BaseException) -> bool:
    """Whether the connection must be cut; a query cancelled by someone leaves it sound."""
    return isinstance(error, SPOILED) and not isinstance(error, asyncpg.QueryCanceledError)


def is_infrastructure(error: BaseException) -> bool:
    """Whether an error says something about the database's state rather than about the data."""
    kinds = (Unavailable, CommitInDoubt, asyncpg.QueryCanceledError, asyncpg.InsufficientResourcesError)
    return is_spoiled(error) or isinstance(error, kinds + TRANSIENT)


@dataclass(frozen=True)
class Limits:
    """Seconds, but for ``size``.

    The statement timeout is ``command``, on the client's side: the connection is cut. The server's own
    is off, and no cancel request is sent, because either would end a commit's wait for the synchronous
    standby, and so make visible, and acknowledge, what a failover could still lose.

    ``call``: by then the last try of a call has its connection, or there is none. With ``command`` it is
    less than edge waits for an answer.
    """

    size: int = 10
    checkout: float = 1.5
    connect: float = 1.5
    lock: float = 2.0
    command: float = 3.5
    call: float = 4.0
    age: float = 60.0


class Session:
    """One checked-out connection: asyncpg's five calls, each within the client's patience.

    In a transaction, ``after_commit`` registers what shall happen once it is committed.
    """

    def __init__(self, connection: Connection, command_s: float) -> None:
        self._connection = connection
        self._command_s = command_s
        self.committed_hooks: list[Callable[[], None]] = []

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        async with asyncio.timeout(self._command_s):
            return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        async with asyncio.timeout(self._command_s):
            return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        async with asyncio.timeout(self._command_s):
            return await self._connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: Any) -> str:
        async with asyncio.timeout(self._command_s):
            return await self._connection.execute(sql, *args)

    async def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        async with asyncio.timeout(self._command_s):
            await self._connection.executemany(sql, rows)

    def after_commit(self, hook: Callable[[], None]) -> None:
        if hook not in self.committed_hooks:
            self.committed_hooks.append(hook)


class _Tries:
    """How often, and until when, one call may be tried. ``deadline_s`` by the monotonic clock."""

    def __init__(self, attempts: int, deadline_s: float, budget: RetryBudget, metrics: Metrics) -> None:
        self._attempts = attempts
        self._made = 0
        self._deadline_s = deadline_s
        self._budget = budget
        self._metrics = metrics
        budget.called()

    @property
    def left_s(self) -> float:
        return self._deadline_s - time.monotonic()

    async def again(self, error: Exception) -> bool:
        """Waits for the turn of the next try; or False: there is none, and the error stands."""
        self._made += 1
        pause_s = backoff_s(self._made)
        if self._made >= self._attempts or not is_infrastructure(error) or self.left_s <= pause_s:
            return False
        # Who got no connection has sent nothing: waiting on is no load, and takes nothing from the budget.
        if not isinstance(error, Unavailable) and not self._budget.take():
            self._metrics.add("database.retries_denied")
            return False
        self._metrics.add("database.retries")
        await asyncio.sleep(pause_s)
        return True


class Database:
    """A pool towards one database role. ``url`` as in ``compose.yaml``, with several hosts."""

    def __init__(
        self, url: str, *, service: str, metrics: Metrics, log: Log, limits: Limits | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._metrics = metrics
        self._log = log
        self._pool = Pool(
            DatabaseUrl.parse(url),
            size=self._limits.size,
            connect_s=self._limits.connect,
            age_s=self._limits.age,
            settings={
                "application_name": service,
                "statement_timeout": "0",
                "client_connection_check_interval": "1000",
                "lock_timeout": f"{self._limits.lock * 1000:.0f}",
                "jit": "off",
            },
            metrics=metrics,
            log=log,
        )
        # A failover breaks all connections at once: each may be made up for.
        self._budget = RetryBudget(stock=max(5.0, self._limits.size))

    # -- single statements, each its own transaction ------------------------------------------

    async def fetch(self, sql: str, *args: Any, attempts: int = 1) -> list[Record]:
        return await self._single(lambda session: session.fetch(sql, *args), attempts)

    async def fetchrow(self, sql: str, *args: Any, attempts: int = 1) -> Record | None:
        return await self._single(lambda session: session.fetchrow(sql, *args), attempts)

    async def fetchval(self, sql: str, *args: Any, attempts: int = 1) -> Any:
        return await self._single(lambda session: session.fetchval(sql, *args), attempts)

    async def execute(self, sql: str, *args: Any, attempts: int = 1) -> str:
        return await self._single(lambda session: session.execute(sql, *args), attempts)

    async def _single(self, ask: Callable[[Session], Awaitable[T]], attempts: int) -> T:
        """``attempts`` above 1 only for statements that may run twice without harm.

        Once a try has ended in doubt, ``Unavailable`` would promise too much: that try's error is raised.
        """
        in_doubt: Exception | None = None
        tries = self._tries(attempts)
        while True:
            try:
                async with self.session(tries.left_s) as session:
                    return await ask(session)
            except Exception as error:
                if not isinstance(error, Unavailable):
                    in_doubt = error
                if not await tries.again(error):
                    raise (in_doubt or error) from None

    # -- transactions -------------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self, within_s: float | None = None) -> AsyncIterator[Session]:
        """Begin, run the block, commit. Raises CommitInDoubt when the end of it was not learnt."""
        async with self.session(within_s) as session:
            await session.execute("begin")
            try:
                yield session
            except Exception as error:
                if not is_spoiled(error):
                    await session.execute("rollback")
                raise
            try:
                done = await session.execute("commit")
            except Exception as error:
                if is_spoiled(error):
                    raise CommitInDoubt(f"{type(error).__name__}: {error}") from error
                raise
            if done != "COMMIT":
                raise asyncpg.InFailedSQLTransactionError(f"commit answered {done}")
        for hook in session.committed_hooks:
            hook()

    async def run(self, work: Callable[[Session], Awaitable[T]], *, attempts: int = 3) -> T:
        """``work`` in a transaction; run again when the database, not the work, made it fail.

        Never again once the commit is in doubt, nor when there was no connection to be had.
        """
        tries = self._tries(attempts)
        while True:
            try:
                async with self.transaction(tries.left_s) as session:
                    result = await work(session)
                return result
            except Exception as error:
                if isinstance(error, CommitInDoubt | Unavailable) or not await tries.again(error):
                    raise

    def _tries(self, attempts: int) -> _Tries:
        return _Tries(attempts, time.monotonic() + self._limits.call, self._budget, self._metrics)

    # -- sessions -----------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self, within_s: float | None = None) -> AsyncIterator[Session]:
        """A connection for the block; cut afterwards when the block shows that it is of no more use."""
        checkout_s = self._limits.checkout
        patience_s = checkout_s if within_s is None else min(checkout_s, within_s)
        try:
            pooled = await self._pool.take(patience_s)
        except TimeoutError:
            self._metrics.add("database.checkout_timeouts")
            raise Unavailable(f"no connection within {patience_s:.1f} s") from None
        clean = False
        try:
            yield Session(pooled.connection, self._limits.command)
            clean = True
        except Exception as error:
            cause = error.__cause__ if isinstance(error, CommitInDoubt) and error.__cause__ else error
            clean = not is_spoiled(cause)
            if not clean:
                self._suspect_all(cause)
            raise
        finally:
            self._pool.give_back(pooled, clean=clean)

    async def ready(self) -> bool:
        """Whether a statement goes through now, within a second."""
        try:
            async with asyncio.timeout(1.0):
                await self.fetchval("select 1")
        except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return False
        return True

    def close(self) -> None:
        self._pool.close()

    def _suspect_all(self, error: BaseException) -> None:
        """A failover or a dead link concerns all connections: those of this generation are replaced."""
        generation = self._pool.suspect_all()
        self._metrics.add("database.connections_dropped")
        self._log("database.suspect", error=error, generation=generation)
