"""The roaming partners ``alfa`` and ``beta``: they receive our TAP files, and send theirs.

Directions are named as the billing stack sees them: ``out`` files bill the partner for its visitors
with us, ``in`` files bill us for our subscribers abroad. Sequences run from 1 without a gap per partner
and direction; a retransmission keeps its number, a rejected file gives its number back.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import aiohttp
from aiohttp import web

from witnesses.common import AnswerTime, EventLog, Record, Refusal, application, field, json_object, serve
from witnesses.tap import PARTNERS, TapFile, read_file, wire

# A file exchange between operators crosses the Internet and is checked event by event.
ANSWER_LOW_S, ANSWER_HIGH_S = 0.1, 0.2
SEND_TIMEOUT_S = 5.0
RETRY_LOW_S, RETRY_HIGH_S = 0.1, 1.0
ASK_AGAIN = frozenset({408, 409, 425, 429})
PRICES_MINOR = {"data": 90, "voice": 45, "sms": 12}


class Received:
    """The files that came to us partners, by partner and sequence."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._files: dict[tuple[str, int], TapFile] = {}
        self._last = dict.fromkeys(PARTNERS, 0)
        for file in files_of(log.recovered, "file_received", "out"):
            self._keep(file)

    def _keep(self, file: TapFile) -> None:
        self._files[file.partner, file.sequence] = file
        self._last[file.partner] = file.sequence

    def files(self) -> list[Record]:
        """What we took, as ``GET /files`` shows it."""
        return [file.head("file_received", "out") for file in self._files.values()]

    def take(self, file: TapFile, event_count: int, total_minor: int) -> str:
        """``accepted`` or ``duplicate``; a RAP (422) when the file is wrong."""
        reason = self._fault(file, event_count, total_minor)
        if reason is not None:
            self._log.append([{**file.head("file_rejected", "out"), "reason": reason}])
            raise Refusal(422, f"RAP: {reason}")
        if file.sequence <= self._last[file.partner]:
            self._log.append([file.head("file_duplicate", "out")])
            return "duplicate"
        self._log.append([file.head("file_received", "out"), *file.event_lines("out")])
        self._keep(file)
        return "accepted"

    def _fault(self, file: TapFile, event_count: int, total_minor: int) -> str | None:
        if (event_count, total_minor) != (file.event_count, file.total_minor):
            return (
                f"the header says {event_count} events, {total_minor} in all; "
                f"the events are {file.event_count}, {file.total_minor} in all"
            )
        last = self._last[file.partner]
        if file.sequence > last + 1:
            return f"sequence {file.sequence} came after {last}: one is missing"
        known = self._files.get((file.partner, file.sequence))
        if file.sequence <= last and known != file:
            return f"sequence {file.sequence} was used for another file"
        return None


class Sent:
    """The files we partners sent, by period and ordinal; what is open is sent again."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._files: dict[tuple[str, int], TapFile] = {}
        self._fate: dict[tuple[str, int], str] = {}
        for line in log.recovered:
            if line["event"] in ("file_confirmed", "file_rejected") and line["direction"] == "in":
                self._fate[line["period"], line["ordinal"]] = line["event"]
        ordinals = [line["ordinal"] for line in log.recovered if line["event"] == "file_sent"]
        for ordinal, file in zip(ordinals, files_of(log.recovered, "file_sent", "in"), strict=True):
            self._files[file.period, ordinal] = file

    def fate(self, period: str, ordinal: int) -> str | None:
        """``file_confirmed``, ``file_rejected``, or None while the file is open or unmade."""
        return self._fate.get((period, ordinal))

    def file(self, period: str, ordinal: int, events: int) -> TapFile:
        """The file of that ordinal: as it was sent before, else newly made and logged."""
        known = self._files.get((period, ordinal))
        if known is not None:
            return known
        partner = PARTNERS[ordinal % len(PARTNERS)]
        file = TapFile(
            partner, self._next_sequence(partner), period, _make_events(partner, period, ordinal, events)
        )
        self._log.append([{**file.head("file_sent", "in"), "ordinal": ordinal}, *file.event_lines("in")])
        self._files[period, ordinal] = file
        return file

    def files(self) -> list[Record]:
        """What the other side has confirmed, as ``GET /files`` shows it."""
        return [
            file.head("file_confirmed", "in")
            for at, file in self._files.items()
            if self._fate.get(at) == "file_confirmed"
        ]

    def close(self, file: TapFile, ordinal: int, event: str, reason: str | None = None) -> None:
        self._log.append([{**file.head(event, "in"), "ordinal": ordinal, "reason": reason}])
        self._fate[file.period, ordinal] = event

    def _next_sequence(self, partner: str) -> int:
        used = [
            file.sequence
            for at, file in self._files.items()
            if file.partner == partner and self._fate.get(at) != "file_rejected"
        ]
        return 1 + max(used, default=0)


def files_of(lines: list[dict[str, object]], event: str, direction: str) -> list[TapFile]:
    """The files of such lines of the log, in order, each with the events logged right after it."""
    files = []
    for number, line in enumerate(lines):
        if line["event"] == event and line["direction"] == direction:
            body = lines[number + 1 : number + 1 + int(str(line["event_count"]))]
            files.append(read_file({**line, "events": body}))
    return files


def _make_events(
    partner: str, period: str, ordinal: int, events: int
) -> tuple[tuple[str, str, int, int], ...]:
    drawn = random.Random(f"tap-in/{period}/{ordinal}")
    made = []
    for number in range(events):
        service = drawn.choice(tuple(PRICES_MINOR))
        units = drawn.randint(1, 20)
        made.append((f"{partner}-{period}-{ordinal}-{number}", service, units, units * PRICES_MINOR[service]))
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
        """200 when all files of the period have met their fate, 202 while they are being sent."""
        try:
            files, events = int(request.query["files"]), int(request.query["events"])
            period = request.query["period"]
        except (KeyError, ValueError) as error:
            raise Refusal(400, "needs ?files=<int>&events=<int>&period=<name>") from error
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
            self._tasks[period] = asyncio.create_task(self._send_all(period, files, events))
        return web.json_response({**answer, "status": "sending"}, status=202)

    async def _send_all(self, period: str, files: int, events: int) -> None:
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        async with self._in_turn, aiohttp.ClientSession(timeout=timeout) as session:
            for ordinal in range(files):
                if self._sent.fate(period, ordinal) is None:
                    file = self._sent.file(period, ordinal, events)
                    while not await self._send(session, file, ordinal):
                        await asyncio.sleep(self._random.uniform(RETRY_LOW_S, RETRY_HIGH_S))

    async def _send(self, session: aiohttp.ClientSession, file: TapFile, ordinal: int) -> bool:
        """True when the receiver has confirmed or rejected the file."""
        try:
            async with session.post(
                self._url, json=wire(file, sender=file.partner, recipient="home")
            ) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return False  # nobody knows whether it arrived: the same file goes out again
        if answer.status == 200:
            self._sent.close(file, ordinal, "file_confirmed")
            return True
        if 400 <= answer.status < 500 and answer.status not in ASK_AGAIN:
            self._sent.close(file, ordinal, "file_rejected", f"{answer.status}: {text[:300]}")
            return True
        return False

    async def stop(self, _: web.Application) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


def main() -> None:
    log = EventLog(Path(os.environ["LOG_FILE"]), "partner")
    received = Received(log)
    sent = Sent(log)
    emitter = Emitter(sent, os.environ["ROAMING_URL"])
    answer_time = AnswerTime("partner/7", ANSWER_LOW_S, ANSWER_HIGH_S)

    async def tap(request: web.Request) -> web.Response:
        body: Record = await json_object(request)
        file = read_file(body)
        before_s, after_s = answer_time.draw()
        await asyncio.sleep(before_s)
        status = received.take(file, field(body, "event_count", int), field(body, "total_minor", int))
        await asyncio.sleep(after_s)
        return web.json_response({"status": status})

    async def files(_: web.Request) -> web.Response:
        return web.json_response({"files": [*received.files(), *sent.files()]})

    app = application(log)
    app.add_routes([web.post("/tap", tap), web.post("/emit", emitter.emit), web.get("/files", files)])
    app.on_shutdown.append(emitter.stop)
    serve(app)


if __name__ == "__main__":
    main()
