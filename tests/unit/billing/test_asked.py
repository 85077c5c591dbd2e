"""What a request says is taken as it is meant, or refused by the name of what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from aiohttp.test_utils import make_mocked_request

from billing.common import Problem, Settings, instant_field, path_period, query_number, read_instant
from billing.edge.forward import _subscriber


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00", None),  # of which zone?
        ("0001-01-01T00:00:00+14:00", None),  # in UTC it is before all years
        ("soon", None),
        (12, None),
        (None, None),
    ],
)
def test_an_instant_has_a_zone_and_a_year(text: object, instant: datetime | None) -> None:
    assert read_instant(text) == instant


def test_an_instant_that_is_none_is_refused_by_its_name() -> None:
    with pytest.raises(Problem, match="taken_at must be an RFC 3339 instant") as refused:
        instant_field({"taken_at": "soon"}, "taken_at")
    assert refused.value.status == 400


@pytest.mark.parametrize("text", ["", "-1", "1.0", "٣", "0x1", "0" * 18 + "7", "11"])
def test_a_number_of_the_query_is_whole_and_within_its_bounds(text: str) -> None:
    request = make_mocked_request("GET", f"/?n={text}")
    with pytest.raises(Problem, match="n must be a whole number from 1 to 10"):
        query_number(request, "n", at_least=1, at_most=10)
    assert query_number(make_mocked_request("GET", "/?n=10"), "n", at_least=1, at_most=10) == 10


@pytest.mark.parametrize(
    ("label", "other"), [("2026-03", "2026/03"), ("2026-03", "2026-03\n"), ("P" * 32, "P" * 33)]
)
def test_a_period_is_a_short_label(label: str, other: str) -> None:
    assert path_period(make_mocked_request("POST", "/", match_info={"period": label})) == label
    with pytest.raises(Problem, match="must match"):
        path_period(make_mocked_request("POST", "/", match_info={"period": other}))


@pytest.mark.parametrize("environment", [{}, {"CALLBACK_KEY": ""}])
def test_a_setting_that_must_be_there_says_something(environment: Mapping[str, str]) -> None:
    with pytest.raises(SystemExit, match="CALLBACK_KEY is missing or empty"):
        Settings("0.0.0.0", 8083, environment).text("CALLBACK_KEY")


@pytest.mark.parametrize(
    ("body", "whom"),
    [
        ({"subscriber": 7}, 7),
        ({"subscriber": 7, "visitor_of": None}, 7),
        ({"subscriber": 7, "visitor_of": "alfa"}, None),  # a number of the partner's
        ({"subscriber": True}, None),
        ({"subscriber": -7}, None),
        ({"subscriber": 10**15 + 1}, None),
        ([7], None),
        ({}, None),
    ],
)
def test_edge_knows_whom_a_request_is_about(body: object, whom: int | None) -> None:
    assert _subscriber(make_mocked_request("POST", "/"), json.dumps(body).encode()) == whom


@pytest.mark.parametrize(
    ("told", "whom"), [("7", 7), ("-7", None), ("٣", None), ("1" * 16, None), ("", None)]
)
def test_edge_knows_it_from_the_path_or_the_query_when_there_is_no_body(told: str, whom: int | None) -> None:
    assert _subscriber(make_mocked_request("GET", f"/?subscriber={told}"), b"") == whom
    assert _subscriber(make_mocked_request("GET", "/", match_info={"subscriber": told}), b"") == whom
