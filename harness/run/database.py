"""Questions in SQL to the running target, out of band: moments, and whether work is pending."""

from __future__ import annotations

import psycopg

from harness.experiment.target import SqlSource, TargetSpec
from harness.target.runtime import Runtime


def conninfo(spec: TargetSpec, runtime: Runtime) -> str | None:
    """How to reach whoever holds the SQL role now; None while nobody does, or the target has no SQL."""
    source: SqlSource | None = spec.sql
    if source is None:
        return None
    holder = runtime.role(source.role) if source.role in spec.roles else source.role
    if holder is None:
        return None
    address = runtime.address(holder, source.port)
    return psycopg.conninfo.make_conninfo(
        host=address.host,
        port=address.port,
        dbname=source.database,
        user=source.user,
        password=source.password or None,
        connect_timeout=3,
        options="-c statement_timeout=10000",
    )


class Asker:
    """One connection, made again whenever it breaks or the role moves."""

    def __init__(self, spec: TargetSpec, runtime: Runtime) -> None:
        self._spec = spec
        self._runtime = runtime
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def ask(self, sql: str) -> object | None:
        """The first column of the first row; None when the database cannot be asked now.

        Raises ``psycopg.ProgrammingError`` for SQL that is wrong: that will not mend itself.
        """
        try:
            if self._connection is None:
                where = conninfo(self._spec, self._runtime)
                if where is None:
                    return None
                self._connection = psycopg.connect(where, autocommit=True)
            row = self._connection.execute(sql.encode()).fetchone()
            return row[0] if row else None
        except psycopg.ProgrammingError:
            raise
        except psycopg.Error:
            self.close()
            return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
