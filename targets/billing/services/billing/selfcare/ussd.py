"""Balance and tariff for who has only a telephone keypad: short codes, answered by one line of text."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from billing.common import CallFailed, HttpClient, Metrics, Problem, refused
from billing.selfcare.catalogue import Catalogue

BALANCE, TARIFF = "*100#", "*200#"
TIMEOUT_S = 1.0
REMEMBERED = 100_000


@dataclass(frozen=True)
class Heard:
    """A balance, and the instant it was true for."""

    balance_minor: int
    as_of: str


class Ussd:
    """Asks charging; where that is silent, says what it heard last, and of when that is."""

    def __init__(self, charging: HttpClient, catalogue: Catalogue, metrics: Metrics) -> None:
        self._charging = charging
        self._catalogue = catalogue
        self._metrics = metrics
        self._heard: OrderedDict[int, Heard] = OrderedDict()  # who asked last is last

    async def answer(self, subscriber: int, code: str) -> dict[str, Any]:
        """Raises Problem: 400 for a code that does not exist, 404 for an unknown subscriber, 503."""
        if code == BALANCE:
            heard = await self._balance(subscriber)
            whole, hundredths = divmod(abs(heard.balance_minor), 100)
            sign = "-" if heard.balance_minor < 0 else ""
            text = f"Balance {sign}{whole}.{hundredths:02d} as of {heard.as_of}"
            return {"text": text, "balance_minor": heard.balance_minor, "as_of": heard.as_of}
        if code == TARIFF:
            return {"text": self._catalogue.price_line(), "as_of": self._catalogue.shown()["as_of"]}
        raise Problem(400, "unknown code", f"{BALANCE} gives the balance, {TARIFF} the tariff, not {code!r}")

    async def _balance(self, subscriber: int) -> Heard:
        try:
            answer = await self._charging.call(
                "GET", f"/accounts/{subscriber}/balance?read=replica", attempts=1, timeout_s=TIMEOUT_S
            )
        except CallFailed:
            return self._last(subscriber)
        if answer.status == 404:
            raise Problem(404, "no such subscriber", str(subscriber))
        if answer.status != 200 or not isinstance(answer.body, dict):
            return self._last(subscriber)
        heard = Heard(answer.body["balance_minor"], answer.body["as_of"])
        self._heard[subscriber] = heard
        self._heard.move_to_end(subscriber)
        if len(self._heard) > REMEMBERED:
            self._heard.popitem(last=False)
        return heard

    def _last(self, subscriber: int) -> Heard:
        self._metrics.add("ussd.from_memory")
        heard = self._heard.get(subscriber)
        if heard is None:
            raise refused("no balance", "the balance cannot be asked now, and was not asked before")
        return heard
