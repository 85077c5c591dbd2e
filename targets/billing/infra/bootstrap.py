"""Makes the database ``billing``: run once by Patroni on the first primary, with a connection string.

Roles, schemas, tables: ``schema/*.sql`` in the order of their names, in one transaction.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg

SCHEMA = Path(__file__).parent / "schema"
DATABASE = "billing"


def main() -> None:
    conninfo = sys.argv[1]
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"create database {DATABASE}")
    with psycopg.connect(conninfo, dbname=DATABASE) as connection:
        for file in sorted(SCHEMA.glob("*.sql")):
            connection.execute(file.read_bytes())


if __name__ == "__main__":
    main()
