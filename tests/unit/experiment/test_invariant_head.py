"""What a head takes from its query: the ``with`` before the query itself, and nothing of the latter."""

from __future__ import annotations

import pytest

from harness.experiment.invariant_head import read_head, with_of

A = "with a as (select 1) "
HEAD = "-- id: X\n-- title: x\n"


@pytest.mark.parametrize(
    ("common", "query"),
    [
        ("", ""),
        ("", "select 1"),
        ("", "select * from (with a as (select 1) select * from a)"),
        ("", "with a as (select 1"),
        (A, "select 1"),
        (A.upper(), "SELECT 1"),
        (A, "from a"),
        (A, "(select 2) union all select 3"),
        ("with a as (\nselect 1)\n", "select 2"),
        ("with a(n) as materialized (select 1), b as (select ')') ", "select 1"),
        ("with recursive a(n) using key (n) as (select (1)) ", "select 1"),
        ("with \"a)\" as (select 'it''s)') /* ) */ -- )\n", "select 1"),
    ],
)
def test_with_of(common: str, query: str) -> None:
    assert with_of(common + query) == common
    assert with_of(f"-- with (b) as\n{common}{query}") == common


def test_a_head_is_asked_with_what_the_query_names() -> None:
    head = read_head(f"{HEAD}-- needs: select 1\n-- when: select true\n{A}select 1", "x")
    assert (head.needs, head.when) == (A + "select 1", A + "select true")


def test_a_head_with_its_own_stands_alone() -> None:
    head = read_head(f"{HEAD}-- needs: with b as (select 2) select 1 from b\n{A}select 1", "x")
    assert (head.needs, head.when) == ("with b as (select 2) select 1 from b", "")
