"""Tells all customers of an outage, and of its end: one broadcast each, straight to the gateway.

They must reach customers while the core is down, so nothing of the core is on their way. What is not
confirmed is in a file, and goes out again under the same id, also by the next incarnation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from billing.common import CallFailed, HttpClient, Log, backoff_s
from billing.selfcare.files import read_json, write_json

BEGINS_AFTER_S = 2.0
ENDS_AFTER_S = 3.0
EVERY_S = 0.5
RETRY_CAP_S = 2.0
RECIPIENT = "broadcast"
TEXTS = {
    "outage": "Some of our services cannot be reached at present. We are working on it.",
    "restoration": "All our services can be reached again.",
}


class Bulletins:
    """``run`` watches and sends for ever; ``red`` tells whether the status page is red now."""

    def __init__(
        self,
        red: Callable[[], bool],
        gateway: HttpClient,
        file: Path,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._red = red
        self._gateway = gateway
        self._file = file
        self._log = log
        self._clock = clock
        kept = read_json(file, {})
        self._outage: str | None = kept.get("outage")  # the id of the one that was told and lasts
        self._unsent: list[dict[str, Any]] = kept.get("unsent", [])
        self._seen_red = False
        self._since = clock()

    async def run(self) -> None:
        tries = 0
        while True:
            self.look()
            if self._unsent and not await self._send(self._unsent[0]):
                tries += 1
                await asyncio.sleep(backoff_s(tries, base_s=0.2, cap_s=RETRY_CAP_S))
                continue
            tries = 0
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Announce what has lasted long enough."""
        now, red = self._clock(), self._red()
        if red != self._seen_red:
            self._seen_red, self._since = red, now
        for_s = now - self._since
        if red and self._outage is None and for_s >= BEGINS_AFTER_S:
            self._outage = str(uuid4())
            self._announce("outage", self._outage)
        elif not red and self._outage is not None and for_s >= ENDS_AFTER_S:
            ended, self._outage = self._outage, None
            self._announce("restoration", ended)

    def _announce(self, template: str, outage: str) -> None:
        message = {
            "message_id": str(uuid4()),
            "event_id": outage,
            "recipient": RECIPIENT,
            "template": template,
            "body": TEXTS[template],
        }
        self._unsent.append(message)
        self._log("bulletin", template=template, outage_id=outage)
        self._keep()

    async def _send(self, message: dict[str, Any]) -> bool:
        try:
            answer = await self._gateway.call("POST", "/messages", body=message, attempts=1)
        except CallFailed:
            return False
        if answer.status >= 500 or answer.status in (408, 425, 429):
            return False
        if answer.status >= 400:  # it will never be taken: said, and out of the way of the others
            self._log("bulletin.refused", message_id=message["message_id"], status=answer.status)
        self._unsent.remove(message)
        self._keep()
        return True

    def _keep(self) -> None:
        write_json(self._file, {"outage": self._outage, "unsent": self._unsent})
