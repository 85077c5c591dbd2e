"""Business figures of the target's own: SQL files, each one SELECT that gives one number.

A file is a query under a head of comments (``harness.experiment.figure_head``)::

    -- id: leakage_minor
    -- title: Service given away and not billed
    -- unit: minor
    -- group: usage and charging
    select ... as value

It gives one row with one column, ``value``: a number, or null where that cannot be said. It is asked of the
tables that invariants are asked of; the target's prices and rules (``impact`` in its ``compose.yaml``) are
the table ``prices``. A figure never decides a verdict: one that crashes is null, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from harness.check.invariants import CannotCheck, checked, single_select, time_limit
from harness.experiment.figure_head import FigureHead, read_figure_head

NULL = "its query found nothing that it could be counted from"


@dataclass(frozen=True)
class FigureFile:
    """A parsed file."""

    head: FigureHead
    sql: str


@dataclass(frozen=True)
class Value:
    """``value`` None: cannot be said, for ``reason``."""

    value: float | None
    reason: str = ""


def parse_figure(text: str, file: str) -> FigureFile:
    """Read head and query. TargetError names the file and what is wrong in its head."""
    return FigureFile(read_figure_head(text, file), text)


def run_figure(
    connection: duckdb.DuckDBPyConnection, figure: FigureFile, present: Collection[str]
) -> Value | None:
    """The figure of this run; None where it does not apply. Never raises.

    ``present``: the kinds, faults and jobs of this experiment.
    """
    applies = figure.head.applies
    if applies and not set(applies) & set(present):
        return None
    try:
        return _value(connection, figure.sql)
    except CannotCheck as error:
        return Value(None, str(error))


def _value(connection: duckdb.DuckDBPyConnection, sql: str) -> Value:
    select = single_select(connection, sql)
    with checked(), time_limit(connection):
        cursor = connection.execute(select)
        columns = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchmany(2)
    if columns != ["value"] or len(rows) != 1:
        many = ("no row", "one row", "several rows")[len(rows)]
        raise CannotCheck(
            f"it must give one row with one column, value; it gave {many} with {', '.join(columns)}"
        )
    (value,) = rows[0]
    if value is None:
        return Value(None, NULL)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise CannotCheck(f"its value must be a number, not {str(value)[:60]!r}")
    if not math.isfinite(value):
        raise CannotCheck(f"its value is not finite: {value}")
    return Value(rounded(value))


def rounded(value: float | Decimal) -> float:
    """As figures are written: four digits behind the point."""
    return round(float(value), 4)
