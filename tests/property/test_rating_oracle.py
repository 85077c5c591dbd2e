"""Rating and settlement against two oracles that share no code with the stack, to the minor unit.

The stack's side is its pure rating function over the price lists that its schema seeds, and the totals of its
TAP files. One oracle is the SQL that judges runs (USE2 and ROAM2, as they are, over generated tables), the
other ``rating_rules``: fractions, and the clocks of the sellers.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing.mediation.cdr import Cdr
from billing.mediation.tariff import PriceBook, Rated, Tariff, rate
from harness.check.invariants import Found, parse_invariant, run_invariant
from tests.histories.history import BILLING
from tests.property import rating_rules as rules
from tests.property.rating_run import (
    LAST,
    NOW,
    PERIODS,
    TURNS,
    Case,
    Price,
    files_of,
    sums_of,
    use,
    write_operations,
    write_settlement,
    write_usage,
)

SIZE = 100_000
SEED = 20_240_101


def seeded(connection: duckdb.DuckDBPyConnection) -> list[tuple[Tariff, str | None]]:
    """The price lists as the schema makes them, each with its correction: its own statements, run here."""
    text = (BILLING / "infra" / "schema" / "40_mediation.sql").read_text(encoding="utf-8")
    connection.execute("create schema prices; create sequence prices.ids")
    connection.execute("""
        create table prices.tariff (
          id bigint default nextval('prices.ids'), service text, partner text, currency text, time_zone text,
          valid_from timestamptz, valid_to timestamptz, peak_from int, peak_to int,
          price_micro_per_unit bigint, peak_price_micro_per_unit bigint, increment bigint, revision int,
          correction text)""")
    statements = re.findall(r"insert into mediation\.tariff .*?;", text, re.S)
    assert len(statements) == 2
    for statement in statements:
        connection.execute(statement.replace("mediation.tariff", "prices.tariff"))
    rows = connection.execute("""
        select id, service, partner, currency, time_zone, epoch_us(valid_from), epoch_us(valid_to), peak_from,
               peak_to, price_micro_per_unit, peak_price_micro_per_unit, increment, revision, correction
        from prices.tariff order by id""").fetchall()
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        (Tariff(*row[:5], *(start + timedelta(microseconds=us) for us in row[5:7]), *row[7:13]), row[13])
        for row in rows
    ]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    opened = duckdb.connect(config={"threads": 2})
    opened.execute("set timezone = 'UTC'; create macro ns(instant) as epoch_ns(instant::timestamptz)")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def books(connection: duckdb.DuckDBPyConnection) -> tuple[PriceBook, PriceBook]:
    """The regular price lists, and those with the correction."""
    lists = seeded(connection)
    return PriceBook(t for t, correction in lists if correction is None), PriceBook(t for t, _ in lists)


def stack(cdr: Cdr, book: PriceBook, now: datetime = NOW) -> Price:
    result = rate(cdr, book, now)
    return (result.tariff.currency, result.charge_minor) if isinstance(result, Rated) else None


def oracle(cdr: Cdr, *, corrected: bool, now: datetime = NOW) -> Price:
    seller = cdr.visitor_of or rules.HOME
    return rules.cost(seller, cdr.service, cdr.units, cdr.started_at, now, corrected=corrected)


@pytest.fixture(scope="module")
def case(books: tuple[PriceBook, PriceBook]) -> Case:
    rng = random.Random(SEED)
    uses = [use(rng, number) for number in range(SIZE)]
    before, after = ({cdr.record_id: stack(cdr, book) for cdr in uses} for book in books)
    exact = {cdr.record_id: (oracle(cdr, corrected=False), oracle(cdr, corrected=True)) for cdr in uses}
    return Case(uses, before, after, exact)


@pytest.fixture(scope="module")
def evidence(connection: duckdb.DuckDBPyConnection, case: Case) -> duckdb.DuckDBPyConnection:
    write_usage(connection, case)
    write_operations(connection, case)
    write_settlement(connection, files_of(case))
    return connection


def judged(connection: duckdb.DuckDBPyConnection, name: str) -> Found:
    file = parse_invariant((BILLING / "invariants" / f"{name}.sql").read_text(encoding="utf-8"), name)
    return run_invariant(connection, file, {"usage", "usage_file", "roaming", "settlement"})


# --- agreement ------------------------------------------------------------------------------------
def test_there_is_enough_of_everything(case: Case) -> None:
    """What the others agree on is not that nothing can be rated."""
    rated = {key for key, price in case.before.items() if price is not None}
    kinds = Counter((cdr.service, cdr.visitor_of) for cdr in case.uses if cdr.record_id in rated)
    assert len(kinds) == 9 and min(kinds.values()) > 2000
    months = {
        (cdr.visitor_of, cdr.started_at.year, cdr.started_at.month)
        for cdr in case.uses
        if cdr.record_id in rated
    }
    assert len(months) >= 3 * 126
    assert sum(case.before[key] != case.after[key] for key in case.before) > SIZE // 10
    assert sum(price is None for price in case.after.values()) > SIZE // 20
    amounts = Counter(price[1] for price in case.before.values() if price is not None)
    assert amounts[0] > 100 and max(amounts) > 10**11


def test_the_stack_rates_as_the_rules_say(case: Case) -> None:
    found = {key: (case.before[key], case.after[key]) for key in case.exact}
    wrong = [cdr for cdr in case.uses if found[cdr.record_id] != case.exact[cdr.record_id]]
    assert not wrong, [(cdr, found[cdr.record_id], case.exact[cdr.record_id]) for cdr in wrong[:3]]


def test_the_judge_rates_as_the_rules_say(evidence: duckdb.DuckDBPyConnection, case: Case) -> None:
    text = (BILLING / "invariants" / "USE2.sql").read_text(encoding="utf-8")
    prices = text.partition("\n-- The job may have loaded")[0].rstrip().removesuffix(",")
    rows = evidence.execute(
        f"{prices} select key, currency, before_minor, after_minor from prices"
    ).fetchall()
    by_key = {key: (currency, before, after) for key, currency, before, after in rows}
    for cdr in case.uses:
        currency, *amounts = by_key.get(cdr.record_id, (None, None, None))
        found = tuple(None if amount is None else (currency, amount) for amount in amounts)
        assert found == case.exact[cdr.record_id], cdr


def test_the_judge_has_nothing_against_the_stacks_ratings(evidence: duckdb.DuckDBPyConnection) -> None:
    found = judged(evidence, "USE2")
    assert (found.answer, found.checked) == ("pass", SIZE), found.rows


def test_settlement_totals_are_the_sums_of_both_oracles(
    evidence: duckdb.DuckDBPyConnection, case: Case
) -> None:
    exact = Counter[tuple[str, str, str]]()
    for cdr in case.uses:
        price, _ = case.exact[cdr.record_id]
        if cdr.visitor_of is not None and price is not None:
            exact[cdr.visitor_of, PERIODS[int(cdr.record_id[1:]) % len(PERIODS)], price[0]] += price[1]
    assert sums_of(files_of(case)) == dict(exact) and len(exact) == 2 * len(PERIODS)
    found = judged(evidence, "ROAM2")
    assert found.answer == "pass" and found.checked > 20_000, found.rows


@pytest.mark.parametrize(
    ("invariant", "damage"),
    [
        ("USE2", "update mediation.cdr_rated set charge_minor = charge_minor + 1 where {one}"),
        ("USE2", "update mediation.cdr_rated set charge_minor = charge_minor - 1 where {one}"),
        ("USE2", "update mediation.cdr_rated set currency = 'USD' where {one} and currency = 'EUR'"),
        ("ROAM2", "update roaming.tap_event set charge_minor = charge_minor + 1 where rowid = 4711"),
        ("ROAM2", "update witness.partner set charge_minor = charge_minor - 1 where rowid = 4711"),
        ("ROAM2", "update roaming.settlement set total_minor = total_minor + 1 where rowid = 3"),
    ],
)  # fmt: skip
def test_one_minor_unit_in_all_of_them_is_seen(
    evidence: duckdb.DuckDBPyConnection, invariant: str, damage: str
) -> None:
    live = "rowid > 5000 and reversed_at_ns is null and currency = 'EUR'"
    one = f"rowid = (select min(rowid) from mediation.cdr_rated where {live})"
    evidence.execute("begin")
    try:
        evidence.execute(damage.format(one=one))
        assert judged(evidence, invariant).answer == "fail"
    finally:
        evidence.execute("rollback")


# --- edges ----------------------------------------------------------------------------------------
def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("began", "service", "visitor_of", "units", "charge_minor"),
    [
        ("2026-01-01T00:00:00Z", "data", None, 0, 0),  # nothing used
        ("2026-01-01T00:00:00Z", "data", None, 1, 0),  # ten, at 0.02: 0.2
        ("2026-01-01T00:00:00Z", "data", "alfa", 24, 0),  # 0.48
        ("2026-01-01T00:00:00Z", "data", "alfa", 25, 1),  # 0.5: half up
        ("2026-01-01T00:00:00Z", "voice", None, 30, 5),  # 4.5: up, though 4 is even
        ("2026-01-01T00:00:00Z", "voice", None, 31, 9),  # one second into the next half minute
        ("2026-01-01T06:59:59.999999Z", "sms", None, 2, 10),  # before 8 o'clock in Berlin in winter
        ("2026-01-01T07:00:00Z", "sms", None, 2, 12),
        ("2026-01-01T18:59:59.999999Z", "sms", None, 2, 12),
        ("2026-01-01T19:00:00Z", "sms", None, 2, 10),
        ("2026-07-01T05:59:59.999999Z", "sms", None, 2, 10),  # in summer an hour earlier
        ("2026-07-01T06:00:00Z", "sms", None, 2, 12),
        ("2026-03-29T05:59:59Z", "sms", None, 200, 1020),  # clocks were put on that night: month 26 is 5.1
        ("2026-03-29T06:00:00Z", "sms", None, 200, 1224),
        ("2026-10-25T06:00:00Z", "sms", None, 200, 1030),  # and back that night: month 33 is 5.15
        ("2026-10-25T07:00:00Z", "sms", None, 200, 1236),
        ("2026-06-30T21:59:59.999999Z", "sms", None, 200, 1050),  # June in Berlin: month 29, 5.25
        ("2026-06-30T22:00:00Z", "sms", None, 200, 1000),  # July there: the cycle begins again
        ("2025-12-01T04:59:59Z", "sms", "beta", 10, 62),  # November in New York: month 22 is 6.2
        ("2025-12-01T05:00:00Z", "sms", "beta", 10, 40),  # month 23 is the first again
        ("2023-12-31T22:59:59.999999Z", "sms", None, 1, None),  # before the first price list
        ("2023-12-31T23:00:00Z", "sms", None, 1, 5),
        ("2035-12-31T22:59:59.999999Z", "sms", None, 200, 1050),
        ("2035-12-31T23:00:00Z", "sms", None, 1, None),  # after the last
    ],
)  # fmt: skip
def test_edges_by_hand(
    books: tuple[PriceBook, PriceBook],
    began: str,
    service: str,
    visitor_of: str | None,
    units: int,
    charge_minor: int | None,
) -> None:
    """Amounts worked out by hand: both the stack and the rules must give them."""
    cdr = Cdr("r1", 7, service, units, at(began), visitor_of)
    found = stack(cdr, books[0], LAST)
    assert found == oracle(cdr, corrected=False, now=LAST)
    assert (found and found[1]) == charge_minor


def test_both_hours_of_a_fold_and_the_hour_around_a_gap_are_their_own(
    books: tuple[PriceBook, PriceBook],
) -> None:
    """New York's clocks go at 2:00 by night: two midnights are 25 hours apart, or 23."""
    for midnight, hours in (("2026-11-01T04:00:00Z", 25), ("2026-03-08T05:00:00Z", 23)):
        for hour in range(hours + 1):
            cdr = Cdr("r1", 7, "sms", 3, at(midnight) + timedelta(hours=hour), "beta")
            clock = cdr.started_at.astimezone(rules.SELLERS[rules.BETA][1])
            assert stack(cdr, books[0]) == oracle(cdr, corrected=False)
            cheap = Cdr("r1", 7, "sms", 3, at(midnight), "beta")
            is_dear = stack(cdr, books[0]) != stack(cheap, books[0])
            assert is_dear == (8 <= clock.hour < 20), clock


INSTANTS = st.one_of(
    st.datetimes(datetime(2023, 11, 1), datetime(2036, 2, 1), timezones=st.just(UTC)),
    st.builds(
        lambda turn, seconds: turn + timedelta(seconds=seconds),
        st.sampled_from(TURNS),
        st.one_of(st.integers(-2, 2), st.integers(-7200, 7200), st.integers(-86400, 86400)),
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    began=INSTANTS,
    service=st.sampled_from(["data", "voice", "sms", "telex", "fax"]),
    visitor_of=st.sampled_from([None, "alfa", "beta", "gamma"]),
    units=st.one_of(st.integers(0, 2000), st.integers(0, 2**63 - 1)),
    ahead=st.one_of(st.just(timedelta(0)), st.timedeltas(timedelta(hours=-30), timedelta(hours=30))),
)
@example(at("2026-10-25T00:30:00Z"), "voice", None, 30, timedelta(0))
@example(at("2026-10-25T01:30:00Z"), "voice", None, 30, timedelta(days=1))
@example(at("2026-10-25T01:30:00Z"), "voice", None, 30, timedelta(days=1, microseconds=1))
def test_any_use_is_rated_as_the_rules_say(
    books: tuple[PriceBook, PriceBook],
    began: datetime,
    service: str,
    visitor_of: str | None,
    units: int,
    ahead: timedelta,
) -> None:
    cdr = Cdr("r1", 7, service, units, began, visitor_of)
    for corrected, book in enumerate(books):
        expected = oracle(cdr, corrected=bool(corrected), now=began - ahead)
        assert stack(cdr, book, began - ahead) == expected
