"""Call-backs of a payment service provider: what has happened to a charge, told to the merchant unasked.

They come as such messages do: most within a second, some late, some twice, so in any order. When, is drawn
from a fixed seed. One that is not answered with 2xx or 4xx is sent again, for as long as it takes. Each
that was answered is a line ``callback`` of the provider's log.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from witnesses.common import EventLog

SOON_S = (0.2, 1.0)
LATE_S = (3.0, 6.0)
LATE_SHARE = 0.15
TWICE_SHARE = 0.1
TIMEOUT_S = 2.0
AGAIN_S = 0.5  # doubled with each try, up to
AGAIN_MOST_S = 4.0
AT_ONCE = 16


@dataclass(frozen=True)
class Telling:
    """What there is to tell: ``seq`` of the log's line about it; ``event`` captured, voided or refunded."""

    seq: int
    event: str
    key: str
    amount_minor: int | None


def delays_s(witness: str, seq: int) -> list[float]:
    """When a call-back is sent, in seconds after the event; twice, it has two delays."""
    chance = random.Random(f"{witness}/callback/{seq}")
    delays = [chance.uniform(*(LATE_S if chance.random() < LATE_SHARE else SOON_S))]
    if chance.random() < TWICE_SHARE:
        delays.append(delays[0] + chance.uniform(*SOON_S))
    return delays


def is_final(status: int | None) -> bool:
    """Whether the merchant has heard it, or will not: 2xx or 4xx."""
    return status is not None and (200 <= status < 300 or 400 <= status < 500)


def signature(content: bytes, key: str) -> str:
    """The hex HMAC-SHA256 of a body."""
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


class Callbacks:
    """Sends what it is told to tell. ``run`` belongs to the application's life."""

    def __init__(self, witness: str, url: str, key: str, log: EventLog) -> None:
        self._witness = witness
        self._url = url.rstrip("/") + "/psp/callback"
        self._key = key
        self._log = log
        self._places = asyncio.Semaphore(AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def tell(self, telling: Telling) -> None:
        for delay_s in delays_s(self._witness, telling.seq):
            task = asyncio.create_task(self._send(telling, delay_s))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    @property
    def pending(self) -> int:
        """How many have yet to go out, or to be answered."""
        return len(self._sending)

    async def run(self, _: web.Application) -> AsyncIterator[None]:
        """Until the application ends. What is unsent then is lost, as with a provider that has gone."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        yield
        for task in self._sending:
            task.cancel()
        await self._session.close()

    async def _send(self, telling: Telling, delay_s: float) -> None:
        body = {
            "callback_id": f"{self._witness}:{telling.seq}",
            "psp": self._witness,
            "event": telling.event,
            "key": telling.key,
            "amount_minor": telling.amount_minor,
        }
        content = json.dumps(body).encode()
        again_s = AGAIN_S
        await asyncio.sleep(delay_s)
        while not is_final(status := await self._post(content)):
            await asyncio.sleep(again_s)
            again_s = min(AGAIN_MOST_S, again_s * 2)
        line = {"event": "callback", "told": telling.event, "status": status}
        self._log.append([{**body, **line}])

    async def _post(self, content: bytes) -> int | None:
        """The answer's status; None without one."""
        assert self._session is not None, "the application runs"
        headers = {"Content-Type": "application/json", "X-Signature": signature(content, self._key)}
        async with self._places:
            try:
                async with self._session.post(self._url, data=content, headers=headers) as answer:
                    return answer.status
            except (aiohttp.ClientError, OSError):  # a TimeoutError is one of these
                return None
