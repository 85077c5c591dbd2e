"""The final state from a real PostgreSQL: types, nulls, odd texts, one snapshot, many rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from harness.errors import EnvironmentBroken
from harness.evidence.final_state import collect_sql
from harness.evidence.folder import RunFolder

ROWS = 200_000
ODD = 'comma, "quote", \\N, line\nbreak, ünï'


@pytest.fixture
def database(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("create schema if not exists fs")
        admin.execute("drop table if exists fs.kinds, fs.many, fs.nothing, fs.one")
        admin.execute("""create table fs.kinds (n bigint, small int, t text, at timestamptz, u uuid, j jsonb,
                         yes boolean, f float8, d numeric(10, 2), gone text)""")
        admin.execute("alter table fs.kinds drop column gone")
        insert = "insert into fs.kinds values (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
        uid = "00000000-0000-0000-0000-00000000000a"
        admin.execute(
            insert, (2**62, 7, ODD, "2026-01-02 03:04:05.678901+02", uid, '{"a": 1}', True, 0.1, "1.50")
        )
        admin.execute(insert, (None, None, "", "infinity", None, None, False, None, None))
        admin.execute(insert, (None,) * 9)
        admin.execute("create table fs.many as select n::bigint, 'row ' || n as t, clock_timestamp() as at "
                      f"from generate_series(1, {ROWS}) n")  # fmt: skip
        admin.execute("create table fs.nothing (id bigint)")
        admin.execute("create table fs.one (t text)")
        admin.execute("insert into fs.one values (null), (''), ('x')")
    return postgres_url


def test_collect(database: str, service_url: Callable[[str], str], tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "r")
    tables = ["fs.kinds", "fs.many", "fs.nothing", "fs.one", "charging.posting"]
    with psycopg.connect(database) as admin:  # other tests post to the same ledger
        postings = admin.execute("select count(*) from charging.posting").fetchall()[0][0]
    counts = collect_sql(service_url("auditor"), tables, folder)
    assert counts == {
        "fs.kinds": 3,
        "fs.many": ROWS,
        "fs.nothing": 0,
        "fs.one": 3,
        "charging.posting": postings,
    }
    assert postings >= 2000
    full, empty, nulls = pq.read_table(folder.sql / "fs.kinds.parquet").to_pylist()
    assert full == {
        "n": 2**62, "small": 7, "t": ODD, "at": datetime(2026, 1, 2, 1, 4, 5, 678901, UTC),
        "u": "00000000-0000-0000-0000-00000000000a", "j": '{"a": 1}', "yes": True, "f": 0.1, "d": "1.50",
    }  # fmt: skip
    assert empty["t"] == "" and empty["n"] is None and empty["yes"] is False
    assert empty["at"].year == 2262  # infinity: the last instant that nanoseconds hold
    assert set(nulls.values()) == {None}
    assert pq.read_table(folder.sql / "fs.one.parquet").to_pylist() == [{"t": None}, {"t": ""}, {"t": "x"}]
    many = pq.read_table(folder.sql / "fs.many.parquet")
    assert sorted(many.column("n").to_pylist()) == list(range(1, ROWS + 1))
    assert not [file for file in folder.evidence.rglob("*") if file.suffix != ".parquet" and file.is_file()]


def test_a_missing_table_is_said(database: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentBroken, match=r"fs\.none"):
        collect_sql(database, ["fs.one", "fs.none"], RunFolder.create(tmp_path, "r"))
    with pytest.raises(EnvironmentBroken, match="cannot be collected"):
        collect_sql("host=127.0.0.1 port=1 connect_timeout=2", ["fs.one"], RunFolder.create(tmp_path, "s"))
