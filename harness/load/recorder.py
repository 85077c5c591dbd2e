"""The recorder: every finished operation becomes one row on disk, or the child dies of it.

The operations' greenlets only append to a queue. A native thread, which no busy greenlet can starve,
packs and writes what has gathered, four times a second, and with it each second's figures and the
summary. ``kill -9`` therefore costs the rows of the last quarter of a second. Whatever goes wrong
here calls ``on_failure``, which does not return: a history with holes must not be judged.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]
from gevent import monkey

from harness.evidence.model import OPERATION_COLUMNS
from harness.load.config import Folder, write_whole
from harness.load.figures import Gauges, Meter
from harness.load.schedule import Arrival

FLUSH_S = 0.25
LATE_NS = 100_000_000  # a second is frozen this long after its end
Row = tuple[Any, ...]
_INTENDED, _COMPLETED, _OUTCOME = (
    list(OPERATION_COLUMNS).index(name) for name in ("intended_ns", "completed_ns", "outcome")
)

_EMPTY: dict[str, Any] = dict.fromkeys(OPERATION_COLUMNS)

# Locust replaces these in the whole process; the recorder needs the real ones.
_start_thread = monkey.get_original("_thread", "start_new_thread")
_sleep = monkey.get_original("time", "sleep")


@dataclass
class Tally:
    """The generator's counts, kept by its greenlets and read by the recorder's thread.

    ``scheduled``: arrivals that were due; ``sent``: operations begun. ``waited``: those of them that
    found every user busy and the pool at its bound; what they waited for a user is the target's doing.
    ``intended``: due arrivals by second.
    """

    scheduled: int = 0
    sent: int = 0
    waited: int = 0
    in_flight: int = 0
    waiting: int = 0
    users: int = 0
    intended: Counter[int] = field(default_factory=Counter)
    lags_ns: deque[int] = field(default_factory=deque)

    def take_intended(self, second: int) -> int:
        """How many were due in ``second``, and came late for the seconds before."""
        return sum(self.intended.pop(past) for past in list(self.intended) if past <= second)


def unsent_row(arrival: Arrival, intended_ns: int, ended_ns: int, queued_ns: int) -> Row:
    """Of an arrival that was due and never began: ``invoked_ns`` is not known."""
    known = {
        "seq": arrival.seq,
        "id": arrival.id,
        "kind": arrival.kind,
        "key": arrival.key,
        "subscriber": arrival.subscriber,
        "intended_ns": intended_ns,
        "completed_ns": ended_ns,
        "attempts": 0,
        "outcome": "unknown",
        "error": "not sent: load ended before a user was free",
        "queued_ns": queued_ns,
    }
    return tuple((_EMPTY | known).values())


class Recorder:
    """Writes into ``folder``. ``append`` may be called from any greenlet and never blocks."""

    def __init__(
        self,
        folder: Folder,
        tally: Tally,
        now_ns: Callable[[], int],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._folder = folder
        self._tally = tally
        self._now_ns = now_ns
        self._on_failure = on_failure
        self._rows: deque[Row] = deque()
        self._packer = msgpack.Packer()
        self._meter: Meter | None = None
        self._closing: str | None = None
        self.recorded = 0
        self.closed = False
        self.append = self._rows.append
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._operations = os.open(folder.operations, flags, 0o644)
        self._figures = os.open(folder.figures, flags, 0o644)

    def start(self, t0_ns: int) -> None:
        """Start the thread; figures count from ``t0_ns`` (epoch)."""
        self._meter = Meter(t0_ns)
        _start_thread(self._run, (self._meter,))

    def close(self, reason: str) -> None:
        """Ask for the last flush; ``closed`` becomes True when all is on disk."""
        self._closing = reason

    # --- the native thread: nothing here may touch what Locust has patched ----------------------
    def _run(self, meter: Meter) -> None:
        try:
            while self._closing is None:
                _sleep(FLUSH_S)
                self._flush(meter, finished=None)
            self._flush(meter, finished=self._closing)
            self.closed = True
        except BaseException as error:
            self._on_failure(error)

    def _flush(self, meter: Meter, finished: str | None) -> None:
        self._write_rows(meter)
        lags = self._tally.lags_ns
        meter.started(lags.popleft() for _ in range(len(lags)))
        gauges = Gauges(self._tally.in_flight, self._tally.waiting, self._tally.users)
        seconds = meter.freeze(self._now_ns() - LATE_NS, self._tally.take_intended, gauges)
        for second in seconds:
            write_all(self._figures, (json.dumps(second.to_json()) + "\n").encode())
        if seconds or finished:
            self._write_summary(meter, finished)

    def _write_rows(self, meter: Meter) -> None:
        packed = bytearray()
        number = len(self._rows)
        for _ in range(number):
            row = self._rows.popleft()
            packed += self._packer.pack(row)
            meter.finished(row[_OUTCOME], row[_INTENDED], row[_COMPLETED])
        write_all(self._operations, packed)
        self.recorded += number

    def _write_summary(self, meter: Meter, finished: str | None) -> None:
        summary = {
            "scheduled": self._tally.scheduled,
            "sent": self._tally.sent,
            "recorded": self.recorded,
            "waited": self._tally.waited,
            "lag_p99_ms": meter.lag.p99_ms(),
            "finished": finished,
        }
        write_whole(self._folder.summary, json.dumps(summary))


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write everything; a short write (a disk that is filling up) is continued until it fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
