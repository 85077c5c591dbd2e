"""Invariants: SQL files of the target, each of which returns the rows that break it.

A file is one SELECT under a head of comments::

    -- id: PAY1
    -- title: No acknowledged payment is lost
    -- applies: topup
    -- needs: select count(*) from operations where kind = 'topup' and outcome = 'ok'
    -- impact: acknowledged_writes_lost where credited_minor = 0

``applies``: operation kinds, faults or jobs, any of which makes it speak (none: always). ``when``: one SELECT
of true or false; false: this run had no situation of which it speaks. ``needs``:
one SELECT of one number, the evidence without which it is inconclusive. ``impact``: the business
figure its violations count for, all or those ``where`` a condition on their columns is true. A row's
``subject`` names whom it is about. ``when`` and ``needs`` may read what the query names in its ``with``.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from harness.check.verdict import InvariantAnswer
from harness.experiment.invariant_head import InvariantHead, read_head

LIMIT_S = 120.0  # of one invariant; a query that runs away is a checker that crashed
MOST_EXAMPLES = 5
NOTHING = "nothing to check: the evidence it needs is not there"
PLAIN_TYPES = frozenset({"BIGINT", "INTEGER", "HUGEINT", "UBIGINT", "DOUBLE", "BOOLEAN", "VARCHAR"})


@dataclass(frozen=True)
class InvariantFile:
    """A parsed file."""

    head: InvariantHead
    sql: str

    @property
    def id(self) -> str:
        return self.head.id


@dataclass(frozen=True)
class Found:
    """What came of one invariant. ``rows`` are the first few violations, ``violations`` counts all.

    ``impact``: how many of them count for the invariant's business figure; None: cannot be said.
    """

    answer: InvariantAnswer
    checked: int = 0
    violations: int = 0
    rows: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    impact: int | None = None


class CannotCheck(Exception):
    """The checker itself failed. Says why; the invariant is inconclusive."""


def parse_invariant(text: str, file: str) -> InvariantFile:
    """Read head and query. TargetError names the file and what is wrong in its head."""
    return InvariantFile(read_head(text, file), text)


def run_invariant(
    connection: duckdb.DuckDBPyConnection, invariant: InvariantFile, present: Collection[str]
) -> Found:
    """Judge one invariant. ``present``: the kinds, faults and jobs of this experiment. Never raises."""
    applies = invariant.head.applies
    if applies and not set(applies) & set(present):
        wanted = ", ".join(applies)
        return Found("not_applicable", reason=f"this experiment has none of: {wanted}")
    try:
        if invariant.head.when and not _is_so(connection, invariant.head.when):
            return Found("not_applicable", reason="this run had no situation of which it speaks")
        checked = _count(connection, "needs", invariant.head.needs)
        violations, rows = _violations(connection, invariant.sql)
        impact = _count_impact(connection, invariant)
    except CannotCheck as error:
        return Found("inconclusive", reason=str(error))
    if violations:
        return Found("fail", checked, violations, rows, impact=impact)
    if checked == 0:
        return Found("inconclusive", reason=NOTHING)
    return Found("pass", checked, impact=impact)


def _count_impact(connection: duckdb.DuckDBPyConnection, invariant: InvariantFile) -> int | None:
    if invariant.head.impact is None:
        return None
    return _count(connection, "impact", f"select count(*) from violations where {invariant.head.impact[1]}")


def single_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """``sql`` when it is one SELECT and nothing else; CannotCheck otherwise."""
    with checked():
        statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise CannotCheck("it must be exactly one SELECT")
    return statements[0].query.strip().rstrip(";")


def _count(connection: duckdb.DuckDBPyConnection, key: str, sql: str) -> int:
    row = _row(connection, key, sql)
    if row is None or len(row) != 1 or not isinstance(row[0], int):
        raise CannotCheck(f"'{key}' must give one whole number, not {row}")
    return row[0]


def _is_so(connection: duckdb.DuckDBPyConnection, when: str) -> bool:
    row = _row(connection, "when", when)
    if row is None or len(row) != 1 or not isinstance(row[0], bool):
        raise CannotCheck(f"'when' must give true or false, not {row}")
    return row[0]


def _row(connection: duckdb.DuckDBPyConnection, key: str, sql: str) -> tuple[Any, ...] | None:
    """The first row of what the head asks under ``key``. CannotCheck says under which key it went wrong."""
    try:
        with checked(), time_limit(connection):
            return connection.execute(single_select(connection, sql)).fetchone()
    except CannotCheck as error:
        raise CannotCheck(f"'{key}': {error}") from error


def _violations(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, tuple[dict[str, Any], ...]]:
    select = single_select(connection, sql)
    with checked(), time_limit(connection):
        connection.execute(f"create or replace temp table violations as {select}")
        counted = connection.execute("select count(*) from violations").fetchone()
        described = connection.execute("describe violations").fetchall()
        shown = ", ".join(
            f'"{name}"' if kind in PLAIN_TYPES else f'"{name}"::varchar as "{name}"'
            for name, kind, *_ in described
        )
        rows = connection.execute(
            f"select {shown} from violations order by all limit {MOST_EXAMPLES}"
        ).fetchall()
    names = [column[0] for column in described]
    return int(counted[0]) if counted else 0, tuple(dict(zip(names, row, strict=True)) for row in rows)


@contextmanager
def time_limit(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupts whatever query of this connection still runs after LIMIT_S."""
    timer = threading.Timer(LIMIT_S, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def checked() -> Iterator[None]:
    """Whatever goes wrong in a query is the checker's failure, out of memory too."""
    try:
        yield
    except CannotCheck:
        raise
    except duckdb.OutOfMemoryException as error:
        raise CannotCheck(f"the checker ran out of memory: {_first_line(error)}") from error
    except duckdb.InterruptException as error:
        raise CannotCheck(f"the query did not end within {LIMIT_S:g} s") from error
    except duckdb.CatalogException as error:
        raise CannotCheck(f"evidence is missing: {_first_line(error)}") from error
    except Exception as error:
        raise CannotCheck(f"the checker crashed: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
