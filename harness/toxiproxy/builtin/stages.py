"""What each toxic does to one direction of one connection.

A lane (``lane.py``) with toxics is a chain of stages; each gets chunks by ``feed``, hands them on by
``emit``, and passes the end of the stream on by ``end`` / ``emit_end``. ``stamp`` is when a chunk was
read, in seconds of the monotonic clock, moved on by whatever delayed it. Stages that hold data back
say so to the lane, which stops reading from the socket: memory stays bounded.
"""

from __future__ import annotations

import random
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from typing import Protocol

from harness.toxiproxy.builtin.specs import ToxicSpec

GRAIN_S = 0.0005  # event loops round timers to milliseconds; sooner than this counts as now

GATE = ToxicSpec("", "noop", "upstream", 1.0, {})


class Chain(Protocol):
    """What a stage needs of its lane."""

    loop: AbstractEventLoop

    def deliver(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def block(self) -> None: ...
    def unblock(self) -> None: ...


class Stage:
    """Passes everything on: a toxic that missed this connection by its toxicity."""

    closes_when_removed = False

    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        self.chain = chain
        self.spec = spec
        self.next: Stage | None = None
        self.closed = False  # the end was passed on; nothing may follow
        self._timer: TimerHandle | None = None

    def feed(self, data: bytes, stamp: float) -> None:
        self.emit(data, stamp)

    def end(self) -> None:
        self.emit_end()

    def flush(self) -> None:
        """Pass on at once whatever is held back: the toxic is being removed or changed."""

    def holds(self) -> bool:
        return False

    def busy(self) -> bool:
        """Whether it has to stay, though its toxic was removed."""
        return False

    def emit(self, data: bytes, stamp: float) -> None:
        if self.closed:
            return
        if self.next is None:
            self.chain.deliver(data)
        else:
            self.next.feed(data, stamp)

    def emit_end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.cancel()
        if self.next is None:
            self.chain.finish()
        else:
            self.next.end()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Gate(Stage):
    """Before the upstream is there: holds the first read, stops the reading, and gives all on when opened."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain, GATE)
        self._early: list[tuple[bytes, float]] = []
        self._ended = False

    def feed(self, data: bytes, stamp: float) -> None:
        if not self._early:
            self.chain.block()
        self._early.append((data, stamp))

    def end(self) -> None:
        self._ended = True

    def open(self) -> None:
        for data, stamp in self._early:
            self.emit(data, stamp)
        if self._ended:
            self.emit_end()
        if self._early:
            self.chain.unblock()


class Queued(Stage):
    """Holds chunks until they are due, in order. ``capacity`` bytes held stop the reading."""

    capacity = 64 * 1024
    one_per_turn = False  # of the event loop: what is written in one turn leaves in one segment

    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        super().__init__(chain, spec)
        self._queue: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._ending = False
        self._full = False

    def hold(self, data: bytes, due: float) -> None:
        self._queue.append((due, data))
        self._held += len(data)
        if self._held > self.capacity and not self._full:
            self._full = True
            self.chain.block()
        if self._timer is None:
            self._arm()

    def end(self) -> None:
        self._ending = True
        if not self._queue:
            self.emit_end()

    def flush(self) -> None:
        self.cancel()
        now = time.monotonic()
        while self._queue:
            self._release(now)
        if self._ending:
            self.emit_end()

    def holds(self) -> bool:
        return bool(self._queue)

    def _arm(self) -> None:
        delay = self._queue[0][0] - time.monotonic()
        self._timer = self.chain.loop.call_later(max(delay, 0.0), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time.monotonic() + GRAIN_S
        while self._queue and self._queue[0][0] <= now:
            self._release(self._queue[0][0])
            if self.one_per_turn:
                break
        if self._queue:
            self._arm()
        elif self._ending:
            self.emit_end()

    def _release(self, stamp: float) -> None:
        _, data = self._queue.popleft()
        self._held -= len(data)
        if self._full and self._held <= self.capacity:
            self._full = False
            self.chain.unblock()
        self.emit(data, stamp)


class Latency(Queued):
    capacity = 8 * 1024 * 1024  # a long fat pipe: what is under way at once

    def feed(self, data: bytes, stamp: float) -> None:
        wanted = self.spec.attributes
        delay_ms = float(wanted["latency"])
        if jitter := wanted["jitter"]:
            delay_ms += random.randrange(-jitter, jitter)
        self.hold(data, stamp + delay_ms / 1000)  # in order, however the jitter falls


class Bandwidth(Queued):
    """A kilobyte is 1000 bytes, so the rate is in bytes per millisecond. Rate 0 lets nothing through."""

    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        super().__init__(chain, spec)
        self._free_at = 0.0

    def feed(self, data: bytes, stamp: float) -> None:
        rate = self.spec.attributes["rate"]
        if rate == 0:
            self.hold(data, float("inf"))
            return
        piece = rate * 100  # at most 100 ms at once
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            self._free_at = max(time.monotonic(), self._free_at) + len(part) / rate / 1000
            self.hold(part, self._free_at)

    def _arm(self) -> None:
        if self._queue[0][0] != float("inf"):
            super()._arm()


class Slicer(Queued):
    one_per_turn = True

    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        super().__init__(chain, spec)
        self._free_at = 0.0

    def feed(self, data: bytes, stamp: float) -> None:
        wanted = self.spec.attributes
        for start, stop in slices(len(data), wanted["average_size"], wanted["size_variation"]):
            due = max(time.monotonic(), self._free_at)
            self._free_at = due + wanted["delay"] / 1_000_000
            self.hold(data[start:stop], due)


def slices(length: int, average: int, variation: int) -> list[tuple[int, int]]:
    """Offsets that halve ``length`` again and again, each middle moved by chance, as the real one does."""
    done: list[tuple[int, int]] = []
    todo = [(0, length)]
    while todo:
        start, stop = todo.pop()
        if stop - start - average <= variation or stop - start < 2:
            done.append((start, stop))
            continue
        middle = start + (stop - start) // 2
        if variation:
            middle += random.randrange(-variation, variation)
        middle = min(max(middle, start + 1), stop - 1)
        todo += [(middle, stop), (start, middle)]
    return done


class Timeout(Stage):
    """Drops all data; ends after that long without any, 0: never. Removing it ends the connection."""

    closes_when_removed = True

    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        super().__init__(chain, spec)
        self._quiet_since = time.monotonic()
        self._arm()

    def feed(self, data: bytes, stamp: float) -> None:
        self._quiet_since = time.monotonic()

    def _arm(self) -> None:
        if timeout_ms := self.spec.attributes["timeout"]:
            left = self._quiet_since + timeout_ms / 1000 - time.monotonic()
            self._timer = self.chain.loop.call_later(max(left, 0.0), self._fire)

    def _fire(self) -> None:
        quiet = time.monotonic() + GRAIN_S - self._quiet_since
        if quiet >= self.spec.attributes["timeout"] / 1000:
            self.emit_end()
        else:
            self._arm()


class ResetPeer(Stage):
    """The first chunk, or the end, starts the clock. The RST comes from the sockets, see ``lane.py``."""

    def feed(self, data: bytes, stamp: float) -> None:
        self.end()

    def end(self) -> None:
        if self._timer is None and not self.closed:
            self._timer = self.chain.loop.call_later(self.spec.attributes["timeout"] / 1000, self.emit_end)

    def busy(self) -> bool:
        return self._timer is not None


class SlowClose(Stage):
    def end(self) -> None:
        if self._timer is None:
            self._timer = self.chain.loop.call_later(self.spec.attributes["delay"] / 1000, self.emit_end)

    def flush(self) -> None:
        if self._timer is not None:
            self.emit_end()


class LimitData(Stage):
    def __init__(self, chain: Chain, spec: ToxicSpec) -> None:
        super().__init__(chain, spec)
        self.passed = 0

    def feed(self, data: bytes, stamp: float) -> None:
        left = max(0, self.spec.attributes["bytes"] - self.passed)
        if part := data[:left]:
            self.passed += len(part)
            self.emit(part, stamp)
        if self.passed >= self.spec.attributes["bytes"]:
            self.emit_end()


STAGES: dict[str, type[Stage]] = {
    "noop": Stage,
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
}


def make_stage(chain: Chain, spec: ToxicSpec) -> Stage:
    """Its toxicity is drawn here, once per connection."""
    hit = random.random() < spec.toxicity
    return (STAGES[spec.type] if hit else Stage)(chain, spec)
