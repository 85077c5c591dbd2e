"""The partners' own TAP files, about our subscribers abroad: made, sent, and sent again."""

from __future__ import annotations

import asyncio
import random
from typing import Literal

import aiohttp
from aiohttp import web

from witnesses.common import EventLog, Record
from witnesses.tap import (
    CURRENCIES,
    PARTNERS,
    Event,
    TapFile,
    files_of,
    text_parameter,
    whole_parameter,
    wire,
)

SEND_TIMEOUT_S = 5.0
RETRY_LOW_S, RETRY_HIGH_S = 0.1, 1.0
ASK_AGAIN = frozenset({408, 409, 425, 429})
PRICES_MINOR = {"data": 90, "voice": 45, "sms": 12}

Fate = Literal["confirmed", "rejected"]


class Sent:
    """The files we partners sent, by period and ordinal; what is open is sent again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._files: dict[tuple[str, int], TapFile] = {}
        self._fate: dict[tuple[str, int], str] = {}
        self._tried_wrong: set[tuple[str, int]] = set()
        for line in log.recovered:
            if line["event"] in ("file_confirmed", "file_rejected") and line["direction"] == "in":
                self._fate[line["period"], line["ordinal"]] = line["event"]
            elif line["event"] in ("wrong_file_confirmed", "wrong_file_rejected"):
                self._tried_wrong.add((line["period"], line["ordinal"]))
        ordinals = [line["ordinal"] for line in log.recovered if line["event"] == "file_sent"]
        for ordinal, file in zip(ordinals, files_of(log.recovered, "file_sent", "in"), strict=True):
            self._files[file.period, ordinal] = file

    def fate(self, period: str, ordinal: int) -> str | None:
        """``file_confirmed``, ``file_rejected``, or None while the file is open or unmade."""
        return self._fate.get((period, ordinal))

    def tried_wrong(self, period: str, ordinal: int) -> bool:
        """Whether the file was sent with a wrong header, and answered."""
        return (period, ordinal) in self._tried_wrong

    def make(self, period: str, ordinal: int, events: int) -> TapFile:
        """The file of that ordinal: as it was sent before, else newly made."""
        known = self._files.get((period, ordinal))
        if known is not None:
            return known
        partner = PARTNERS[ordinal % len(PARTNERS)]
        made = _make_events(partner, period, ordinal, events)
        return TapFile(partner, self._next_sequence(partner), period, CURRENCIES[partner], made)

    def file(self, period: str, ordinal: int, events: int) -> TapFile:
        """The same; a new one is logged as sent."""
        file = self.make(period, ordinal, events)
        if (period, ordinal) not in self._files:
            self._log.append([{**file.head("file_sent", "in"), "ordinal": ordinal}, *file.event_lines("in")])
            self._files[period, ordinal] = file
        return file

    def confirmed(self) -> list[TapFile]:
        """What the other side has confirmed."""
        return [file for at, file in self._files.items() if self._fate.get(at) == "file_confirmed"]

    def heads(self) -> list[Record]:
        """The same, as ``GET /files`` shows it."""
        return [file.head("file_confirmed", "in") for file in self.confirmed()]

    def close(
        self, file: TapFile, ordinal: int, fate: Fate, reason: str | None = None, *, wrong: bool = False
    ) -> None:
        """Log what became of a file; ``wrong``: of the copy with a wrong header, which is to be corrected."""
        event = f"wrong_file_{fate}" if wrong else f"file_{fate}"
        self._log.append([{**file.head(event, "in"), "ordinal": ordinal, "reason": reason}])
        if wrong:
            self._tried_wrong.add((file.period, ordinal))
        else:
            self._fate[file.period, ordinal] = event

    def _next_sequence(self, partner: str) -> int:
        used = [
            file.sequence
            for at, file in self._files.items()
            if file.partner == partner and self._fate.get(at) != "file_rejected"
        ]
        return 1 + max(used, default=0)


def _make_events(partner: str, period: str, ordinal: int, events: int) -> tuple[Event, ...]:
    drawn = random.Random(f"tap-in/{period}/{ordinal}")
    made = []
    for number in range(events):
        service = drawn.choice(tuple(PRICES_MINOR))
        units = drawn.randint(1, 20)
        charge_minor = units * PRICES_MINOR[service]
        made.append(Event(f"{partner}-{period}-{ordinal}-{number}", service, units, charge_minor))
    return tuple(made)


class Emitter:
    """Sends TAP-in files to the roaming service, one after another, each until it is confirmed."""

    def __init__(self, sent: Sent, roaming_url: str) -> None:
        self._sent = sent
        self._url = f"{roaming_url}/tap/in"
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._in_turn = asyncio.Lock()  # two periods at once would overtake each other's sequences
        self._random = random.Random("partner/retry/7")

    async def emit(self, request: web.Request) -> web.Response:
        """200 when all files of the period have met their fate, 202 while they are being sent.

        The first ``wrong`` of them go out with a wrong header first, and right once that was answered.
        """
        files, events = whole_parameter(request, "files"), whole_parameter(request, "events")
        wrong, period = whole_parameter(request, "wrong", 0), text_parameter(request, "period")
        fates = [self._sent.fate(period, ordinal) for ordinal in range(files)]
        answer = {
            "period": period,
            "confirmed": fates.count("file_confirmed"),
            "rejected": fates.count("file_rejected"),
        }
        if None not in fates:
            return web.json_response({**answer, "status": "done"})
        task = self._tasks.get(period)
        if task is None or task.done():
            self._tasks[period] = asyncio.create_task(self._send_all(period, files, events, wrong))
        return web.json_response({**answer, "status": "sending"}, status=202)

    async def _send_all(self, period: str, files: int, events: int, wrong: int) -> None:
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        async with self._in_turn, aiohttp.ClientSession(timeout=timeout) as session:
            for ordinal in range(files):
                if ordinal < wrong and not self._sent.tried_wrong(period, ordinal):
                    await self._send(session, self._sent.make(period, ordinal, events), ordinal, wrong=True)
                if self._sent.fate(period, ordinal) is None:
                    await self._send(session, self._sent.file(period, ordinal, events), ordinal)

    async def _send(
        self, session: aiohttp.ClientSession, file: TapFile, ordinal: int, *, wrong: bool = False
    ) -> None:
        """Until the receiver has confirmed or rejected the file."""
        body = wire(file, sender=file.partner, recipient="home")
        if wrong:
            body["total_minor"] += 1
        while (answer := await self._post(session, body)) is None:
            await asyncio.sleep(self._random.uniform(RETRY_LOW_S, RETRY_HIGH_S))
        self._sent.close(file, ordinal, *answer, wrong=wrong)

    async def _post(self, session: aiohttp.ClientSession, body: Record) -> tuple[Fate, str | None] | None:
        """What the receiver said, and why; None where the same must go out again."""
        try:
            async with session.post(self._url, json=body) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return None  # nobody knows whether it arrived
        if answer.status == 200:
            return "confirmed", None
        if 400 <= answer.status < 500 and answer.status not in ASK_AGAIN:
            return "rejected", f"{answer.status}: {text[:300]}"
        return None

    async def stop(self, _: web.Application) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
