"""The runner of invariants: what other people's SQL may do, and what becomes of it when it breaks."""

from __future__ import annotations

import re

import pytest

from harness.check import invariants
from harness.check.invariants import parse_invariant, run_invariant
from harness.errors import TargetError
from harness.evidence.folder import RunFolder
from harness.evidence.views import open_evidence
from tests.histories.history import base, write_folder

BARE = "-- id: X1\n-- title: A test\n"
HEAD = BARE + "-- needs: select 1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    settings = {"invoicing": {"DUNNING_EVERY_S": "7", "NEW": "x"}}
    return write_folder(base(), tmp_path_factory.mktemp("run"), settings)


def run(folder: RunFolder, sql: str, head: str = HEAD, **options: object) -> invariants.Found:
    connection = open_evidence(folder, **options)  # type: ignore[arg-type]
    try:
        return run_invariant(connection, parse_invariant(head + sql, "x.sql"), {"topup", "crash"})
    finally:
        connection.close()


def test_settings_are_the_targets_and_the_experiments(folder: RunFolder) -> None:
    sql = """select name as subject, value from settings where service = 'invoicing'
             and name in ('DUNNING_EVERY_S', 'DUE_AFTER_S', 'NEW') order by name"""
    found = [(row["subject"], row["value"]) for row in run(folder, sql).rows]
    assert found == [("DUE_AFTER_S", "6"), ("DUNNING_EVERY_S", "7"), ("NEW", "x")]


def test_rows_are_violations(folder: RunFolder) -> None:
    found = run(folder, "select key as subject, now() as seen from (select * from operations limit 7)")
    assert (found.answer, found.violations, len(found.rows)) == ("fail", 7, 5)
    assert isinstance(found.rows[0]["seen"], str)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        ("-- needs: select 1\n", "pass"),
        ("-- needs: select 1\n-- applies: topup other\n", "pass"),
        ("-- needs: select 1\n-- applies: crash\n", "pass"),
        ("-- needs: select 1\n-- applies: other\n", "not_applicable"),
        ("-- needs: select count(*) from operations\n", "pass"),
        ("-- needs: select count(*) from operations where kind = 'none'\n", "inconclusive"),
        ("-- needs: select key from operations limit 1\n", "inconclusive"),
        ("-- needs: select count(*) from nothing.there\n", "inconclusive"),
        ("-- needs: select 1\n-- when: select count(*) > 0 from operations\n", "pass"),
        ("-- needs: select 1\n-- when: select false\n", "not_applicable"),
        ("-- needs: select 1\n-- when: select null\n", "inconclusive"),
        ("-- needs: select 1\n-- when: select 0\n", "inconclusive"),
        ("-- needs: select 1\n-- when: select true from nothing.there\n", "inconclusive"),
    ],
)
def test_head(folder: RunFolder, head: str, answer: str) -> None:
    assert run(folder, "select 1 where false", BARE + head).answer == answer


@pytest.mark.parametrize(
    ("head", "answer", "checked"),
    [
        ("-- needs: select count(*) from due\n", "pass", 3),
        ("-- needs: select n from later\n-- when: select count(*) > 2 from due\n", "pass", 4),
        ("-- needs: select 1\n-- when: select count(*) > 3 from due\n", "not_applicable", 0),
        ("-- needs: with due as (select 1) select count(*) from due\n", "pass", 1),
        ("-- needs: WITH mine as (select 1) select count(*) from due\n", "inconclusive", 0),
        ("-- needs: select count(*) from operations where kind = 'none'\n", "inconclusive", 0),
    ],
)
def test_a_head_reads_what_the_query_names(folder: RunFolder, head: str, answer: str, checked: int) -> None:
    """What it does not read is neither bound (``gone``) nor run (``odd``)."""
    sql = """with due as (
select unnest([1, 2, 3]) as n),
-- with a comment ) select
later as (select max(n) + 1 as n from due),
gone as (select * from no.such_table),
odd as (select error('ran'))
select n as subject from due where n > 3"""
    found = run(folder, sql, BARE + head)
    assert (found.answer, found.checked) == (answer, checked), found


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("-- needs: select count(*) from dew\n", "'needs': evidence is missing: .*dew"),
        ("-- needs: select m from due\n", "'needs': the checker crashed: .*\"m\""),
        ("-- needs: select 1\n-- when: select count(*) > 0 from dew\n", "'when': evidence is missing: .*dew"),
        ("-- needs: select 1; select 2\n", "'needs': it must be exactly one SELECT"),
        ("-- needs: select n || '' from due\n", "'needs' must give one whole number"),
        ("-- needs: select 1\n-- impact: lost where m > 0\n", "'impact': the checker crashed: .*\"m\""),
    ],
)
def test_what_a_head_names_and_is_not_there_is_told(folder: RunFolder, head: str, reason: str) -> None:
    found = run(folder, "with due as (select 1 as n) select n from due where n > 1", BARE + head)
    assert found.answer == "inconclusive" and re.match(reason, found.reason), found.reason


def test_violations_count_even_where_needs_finds_nothing(folder: RunFolder) -> None:
    head = BARE + "-- needs: select count(*) from operations where kind = 'none'\n"
    assert run(folder, "select 'x' as subject", head).answer == "fail"


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select * from psp.gone", "evidence is missing"),
        ("selekt 1", "crashed"),
        ("select no_such_column from operations", "crashed"),
        ("select error('odd') from operations", "crashed"),
        ("drop view operations", "exactly one SELECT"),
        ("select 1 where false; select 2", "exactly one SELECT"),
        ("set threads = 8", "exactly one SELECT"),
        ("copy operations to '/tmp/stolen.csv'", "exactly one SELECT"),
        ("select * from read_csv('/etc/passwd')", "crashed"),
        ("select * from read_text('/etc/passwd')", "crashed"),
        ("select * from 'https://example.org/x.parquet'", ""),
        ("install httpfs", "exactly one SELECT"),
    ],
)
def test_what_breaks_is_inconclusive(folder: RunFolder, sql: str, reason: str) -> None:
    found = run(folder, sql)
    assert found.answer == "inconclusive" and reason in found.reason


def test_out_of_memory_is_inconclusive(folder: RunFolder) -> None:
    found = run(folder, "select list(a.range) as x from range(100_000_000) a", memory_limit="400MB")
    assert found.answer == "inconclusive" and "out of memory" in found.reason


def test_a_query_that_runs_away_is_inconclusive(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariants, "LIMIT_S", 0.3)
    found = run(
        folder, "select count(*) as n from range(1000000) a, range(1000000) b where a.range * b.range = 7"
    )
    assert found.answer == "inconclusive" and "did not end" in found.reason


def test_impact_counts_what_its_condition_names(folder: RunFolder) -> None:
    head = HEAD + "-- impact: lost where amount_minor > 500\n"
    sql = "select 'x' as subject, unnest([500, 501, 502, 20, 503]) as amount_minor"
    assert run(folder, sql, head).impact == 3


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "-- title: x\n-- needs: select 1\nselect 1",
        "-- id: A\n-- title: x\nselect 1",
        "-- id: A\n-- id: B\n-- title: x\n-- needs: select 1\nselect 1",
    ],
)
def test_a_bad_head_is_an_error(text: str) -> None:
    with pytest.raises(TargetError, match=r"x\.sql"):
        parse_invariant(text, "x.sql")
