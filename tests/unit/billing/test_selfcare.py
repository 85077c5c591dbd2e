"""What customers are shown while the core is silent: red, last known, and how old; each outage told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from billing.common import Answer, CallFailed, Metrics, Problem
from billing.selfcare.bulletins import BEGINS_AFTER_S, ENDS_AFTER_S, Bulletins
from billing.selfcare.catalogue import Catalogue
from billing.selfcare.mirror import SILENT_ASKS, Mirror
from billing.selfcare.ussd import BALANCE, TARIFF, Ussd

GREEN = {"overall": "green", "mode": "normal", "epoch": 1, "announcements": []}
GREEN["components"] = {"payments": "green"}
PRICES = {"tariffs": [{"service": "sms", "unit": "message", "price_micro_per_unit": 5_000_000}], "offers": []}


class Party:
    """Answers what it is told to; None: silence."""

    def __init__(self, status: int | None = 200, body: Any = None) -> None:
        self.status, self.body = status, body
        self.asked: list[Any] = []

    async def call(self, method: str, path: str, *, body: Any = None, **_: Any) -> Answer:
        self.asked.append(body if body is not None else path)
        if self.status is None:
            raise CallFailed("silence", may_have_arrived=True)
        return Answer(self.status, self.body, {})


def quiet(*_: Any, **__: Any) -> None: ...


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


# --- the status page --------------------------------------------------------------------------------
def test_the_page_says_what_edge_says() -> None:
    mirror = Mirror(Party(body=GREEN))  # type: ignore[arg-type]
    assert mirror.page()["overall"] == "red" and not mirror.broken()
    run(mirror.ask())
    page = mirror.page()
    assert (page["overall"], page["source"], page["components"]) == ("green", "edge", GREEN["components"])


@pytest.mark.parametrize("silence", [(None, None), (502, None), (200, "no page")])
def test_when_edge_is_silent_the_page_is_red_and_remembers(silence: tuple[Any, Any]) -> None:
    now = [1000.0]
    edge = Party(body=GREEN)
    mirror = Mirror(edge, clock=lambda: now[0])  # type: ignore[arg-type]
    run(mirror.ask())
    edge.status, edge.body = silence
    now[0] += 5
    for _ in range(SILENT_ASKS):
        assert mirror.page()["overall"] == "green"
        run(mirror.ask())
    page = mirror.page()
    assert (page["overall"], page["source"], page["as_of"]) == (
        "red",
        "selfcare",
        "1970-01-01T00:16:40.000+00:00",
    )
    assert page["components"] == {"payments": "green", "edge": "red"} and mirror.broken()


# --- bulletins --------------------------------------------------------------------------------------
class Watch:
    def __init__(self, folder: Path, gateway: Party) -> None:
        self.red, self.now, self.gateway = False, 50.0, gateway
        self.make = lambda: Bulletins(
            lambda: self.red,
            gateway,
            folder / "b.json",
            quiet,
            lambda: self.now,  # type: ignore[arg-type]
        )
        self.bulletins = self.make()

    def pass_s(self, seconds: float, *, red: bool) -> None:
        self.red = red
        for _ in range(int(seconds * 2) + 1):
            self.bulletins.look()
            self.now += 0.5

    def send(self) -> list[str]:
        before = len(self.gateway.asked)
        while self.bulletins._unsent and run(self.bulletins._send(self.bulletins._unsent[0])):
            pass
        return [message["template"] for message in self.gateway.asked[before:]]


def test_an_outage_and_its_end_are_told_once_each(tmp_path: Path) -> None:
    watch = Watch(tmp_path, Party(202))
    watch.pass_s(BEGINS_AFTER_S - 1, red=True)
    watch.pass_s(5, red=False)
    assert watch.send() == []
    watch.pass_s(BEGINS_AFTER_S + 5, red=True)
    assert watch.send() == ["outage"]
    watch.pass_s(ENDS_AFTER_S - 1, red=False)
    watch.pass_s(1, red=True)
    watch.pass_s(ENDS_AFTER_S + 5, red=False)
    assert watch.send() == ["restoration"]
    outage, restoration = watch.gateway.asked
    assert outage["event_id"] == restoration["event_id"] and outage["recipient"] == "broadcast"


def test_what_the_gateway_did_not_confirm_goes_out_again_under_the_same_id(tmp_path: Path) -> None:
    gateway = Party(None)
    watch = Watch(tmp_path, gateway)
    watch.pass_s(BEGINS_AFTER_S + 1, red=True)
    watch.send()
    gateway.status = 202
    watch.bulletins = watch.make()  # by the next incarnation
    assert watch.send() == ["outage"]
    first, second = gateway.asked
    assert first == second
    watch.pass_s(BEGINS_AFTER_S + 1, red=True)
    assert watch.send() == [], "the next incarnation knows that this outage was told"
    watch.pass_s(ENDS_AFTER_S + 1, red=False)
    assert watch.send() == ["restoration"]


# --- catalogue and USSD -----------------------------------------------------------------------------
def test_the_catalogue_outlasts_its_owner_and_a_restart(tmp_path: Path) -> None:
    mediation = Party(None)
    catalogue = Catalogue(mediation, tmp_path / "c.json")  # type: ignore[arg-type]
    run(catalogue.refresh())
    with pytest.raises(Problem) as told:
        catalogue.shown()
    assert (told.value.status, told.value.retry_after_s) == (503, 1)
    mediation.status, mediation.body = 200, PRICES
    run(catalogue.refresh())
    as_of = catalogue.shown()["as_of"]
    mediation.status = None
    again = Catalogue(mediation, tmp_path / "c.json")  # type: ignore[arg-type]
    run(again.refresh())
    assert again.shown()["tariffs"] == PRICES["tariffs"] and again.shown()["as_of"] == as_of
    assert again.price_line() == "Tariff: sms 5/message"


def dial(charging: Party, tmp_path: Path) -> Callable[[int, str], Any]:
    catalogue = Catalogue(Party(body=PRICES), tmp_path / "c.json")  # type: ignore[arg-type]
    run(catalogue.refresh())
    ussd = Ussd(charging, catalogue, Metrics())  # type: ignore[arg-type]
    return lambda subscriber, code: run(ussd.answer(subscriber, code))


def test_the_last_balance_is_told_with_its_age_while_charging_is_silent(tmp_path: Path) -> None:
    charging = Party(body={"balance_minor": -1205, "as_of": "noon"})
    ask = dial(charging, tmp_path)
    assert ask(7, BALANCE) == {"text": "Balance -12.05 as of noon", "balance_minor": -1205, "as_of": "noon"}
    charging.status = 500
    assert ask(7, BALANCE)["as_of"] == "noon"
    charging.status = None
    assert ask(7, BALANCE)["as_of"] == "noon"
    with pytest.raises(Problem) as told:
        ask(8, BALANCE)
    assert told.value.status == 503
    assert ask(8, TARIFF)["text"].startswith("Tariff: sms")


@pytest.mark.parametrize(("code", "status", "problem"), [("*999#", 200, 400), (BALANCE, 404, 404)])
def test_what_ussd_refuses(tmp_path: Path, code: str, status: int, problem: int) -> None:
    with pytest.raises(Problem) as told:
        dial(Party(status), tmp_path)(7, code)
    assert told.value.status == problem
