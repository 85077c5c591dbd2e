"""Mediation as a real process: files of records, and a price correction whose run is killed half-way."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import requests

from billing.mediation.prices import _CHANGE
from tests.integration.billing_processes import Launcher, Process, eventually

Rows = Callable[..., list[Any]]

RATINGS = """
select rating, charge_minor, reversed_at is null, count(*)::int from mediation.cdr_rated
where record_id like %s group by 1, 2, 3 order by 1, 2"""


def send_file(mediation: Process, name: str, lines: list[str]) -> requests.Response:
    return requests.post(
        f"{mediation.url}/cdrs/files", data="\n".join(lines), headers={"X-File-Name": name}, timeout=5
    )


def calls(prefix: str, count: int, service: str) -> list[str]:
    """Of 61 seconds, at noon in Berlin on 1 January 2026."""
    record = {"subscriber": 7, "service": service, "units": 61, "started_at": "2026-01-01T11:00:00Z"}
    return [json.dumps({"record_id": f"{prefix}-{service}-{n:03}", **record}) for n in range(count)]


def test_a_file_is_kept_whole_whatever_its_lines_are(launch: Launcher, rows: Rows) -> None:
    mediation, name = launch("billing.mediation"), uuid.uuid4().hex
    good = calls(name, 5, "data")
    lines = [good[0], "{", *good[1:4], good[0], good[1].replace('"units": 61', '"units": 62')]
    counts = {"records": 7, "accepted": 4, "duplicates": 1, "malformed": 2}
    for _ in range(2):  # an identical copy changes nothing, and is answered alike
        answer = send_file(mediation, name, lines)
        assert answer.status_code == 202 and answer.json() == {"file": name, **counts}
    assert send_file(mediation, name, good).status_code == 422
    assert send_file(mediation, "", good).status_code == 400
    assert send_file(mediation, f"{name}-empty", []).status_code == 400
    again = send_file(mediation, f"{name}-again", good).json()
    assert (again["accepted"], again["duplicates"]) == (1, 4)
    kept = rows("select line, reason from mediation.malformed_line where file = %s order by line", name)
    assert [line for line, _ in kept] == [2, 7] and "other content" in kept[1][1]
    rated = "select count(*), min(units), max(units) from mediation.cdr_rated where record_id like %s"
    eventually("all are rated", lambda: rows(rated, f"{name}-data-%") == [(5, 61, 61)])


def test_nobody_rates_while_a_correction_is_loaded_and_then_past_what_another_holds(
    launch: Launcher, rows: Rows, service_url: Callable[[str], str]
) -> None:
    mediation, prefix = launch("billing.mediation"), uuid.uuid4().hex
    rated = "select count(*) from mediation.cdr_rated where record_id like %s"
    waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    url = service_url("mediation")
    with psycopg.connect(url) as loading, psycopg.connect(url) as other:
        loading.execute(_CHANGE)
        assert send_file(mediation, prefix, calls(prefix, 3, "data")).status_code == 202
        eventually("the rating waits", lambda: rows(waiting)[0][0] > 0)
        assert rows(rated, f"{prefix}-%") == [(0,)]
        other.execute("select from cdr_raw where record_id = %s for update", [f"{prefix}-data-000"])
        loading.commit()
        eventually("the others are rated", lambda: rows(rated, f"{prefix}-%") == [(2,)])
    eventually("all are rated", lambda: rows(rated, f"{prefix}-%") == [(3,)])


def test_a_correction_killed_half_way_reverses_and_rates_each_record_once(
    launch: Launcher, rows: Rows, service_url: Callable[[str], str]
) -> None:
    mediation, prefix = launch("billing.mediation"), uuid.uuid4().hex[:8]
    rows("delete from mediation.rerating returning 1")  # one that another test has loaded
    send_file(mediation, prefix, [*calls(prefix, 180, "voice"), *calls(prefix, 3, "telex")])
    mine = f"{prefix}-%"
    unprocessed = "select 1 from mediation.cdr_raw where record_id like %s and processed_at is null"
    eventually("all are processed", lambda: not rows(unprocessed, mine))
    assert rows(RATINGS, mine) == [(1, 16, True, 180)]  # 90 s at 0.18
    assert requests.post(f"{mediation.url}/rerating/C2", timeout=5).status_code == 404

    url = f"{mediation.url}/rerating/C1"
    with psycopg.connect(service_url("mediation")) as obstacle:  # the third batch cannot get at its records
        obstacle.execute("select from cdr_rated where record_id = %s for update", [f"{prefix}-voice-120"])
        assert requests.post(url, timeout=5).status_code == 202
        reversed_ = (
            "select count(*) from mediation.cdr_rated where record_id like %s and reversed_at is not null"
        )
        eventually("it is half done", lambda: rows(reversed_, mine)[0][0] > 0)
        mediation.kill()
    half = rows(reversed_, mine)[0][0]
    assert 0 < half < 180
    mediation.start()
    answer = eventually("the run goes on by itself", lambda: done(url))
    assert answer["resolved"] >= 3 and answer["corrected"] >= 180
    assert requests.post(url, timeout=5).json() == answer
    voice, telex = f"{prefix}-voice-%", f"{prefix}-telex-%"
    assert rows(RATINGS, voice) == [(1, 16, False, 180), (2, 10, True, 180)]  # 61 s at 0.168
    assert rows(RATINGS, telex) == [(1, 55, True, 3)]  # 65 at 0.84
    order = """
    select payload->>'record_id', array_agg(subject || (payload->>'rating') order by id) from mediation.outbox
    where payload->>'record_id' like %s group by 1"""
    assert {tuple(told) for _, told in rows(order, voice)} == {("cdr.rated1", "cdr.reversed1", "cdr.rated2")}
    report = requests.get(
        f"{mediation.url}/usage?subscriber=7&from=2026-01-01&to=2026-01-02", timeout=5
    ).json()
    voice_day = [day for day in report["days"] if day["service"] == "voice"]
    assert [(day["day"], day["charge_minor"] % 10) for day in voice_day] == [("2026-01-01", 0)]
    assert not requests.get(f"{mediation.url}/usage?subscriber=7&to=2025-12-31", timeout=5).json()["days"]
    assert requests.get(f"{mediation.url}/usage?subscriber=7&to=tomorrow", timeout=5).status_code == 400


def done(url: str) -> dict[str, Any] | None:
    """The run's answer once it is done."""
    answer = requests.post(url, timeout=5)
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


def test_the_price_list_in_force_is_told_with_the_offers(launch: Launcher) -> None:
    found = requests.get(f"{launch('billing.mediation').url}/tariffs", timeout=5).json()
    by_service = {tariff["service"]: tariff for tariff in found["tariffs"]}
    assert {"data", "voice", "sms"} <= by_service.keys() and len(found["offers"]) == 3
    assert (by_service["sms"]["currency"], by_service["sms"]["unit"]) == ("EUR", "message")
    assert 5_000_000 <= by_service["sms"]["price_micro_per_unit"] <= 5_250_000
