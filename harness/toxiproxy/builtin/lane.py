"""One connection through a link: two sockets, and a lane from each to the other.

Without toxics a chunk goes from one transport straight to the other. The end of either socket closes
the other for good once its lane has delivered what it held: half-closing is not passed on, as in the
real server. Bytes are counted like there: received when the source ends, sent when the lane is through.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Iterable
from typing import cast

from harness.toxiproxy.builtin.specs import Direction, ToxicSpec
from harness.toxiproxy.builtin.stages import Gate, LimitData, Stage, make_stage

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# (direction, "received" or "sent", bytes)
Count = Callable[[Direction, str, int], None]


class Side(asyncio.Protocol):
    """One of the two sockets. ``out`` is the lane that it feeds, ``into`` the one that it drains."""

    __slots__ = ("into", "lost", "on_lost", "out", "transport")

    def __init__(self, out: Lane, into: Lane, on_lost: Callable[[], None]) -> None:
        self.out = out
        self.into = into
        self.on_lost = on_lost
        self.lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.out.source = self.transport
        self.into.sink = self.transport
        self.into.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        lane = self.out
        lane.received += len(data)
        if lane.head is None:
            lane.sent += len(data)
            lane.write(data)
        else:
            lane.head.feed(data, time.monotonic())

    def eof_received(self) -> bool:
        self.out.end()
        return True  # what comes the other way may still be written, until that lane closes this socket

    def pause_writing(self) -> None:
        self.into.paused = True
        self.into.block()

    def resume_writing(self) -> None:
        self.into.paused = False
        self.into.unblock()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.into.sink_lost()
        self.out.end()
        self.on_lost()

    def reset_on_close(self) -> None:
        """Its close will be a TCP RST."""
        if self.transport is not None:
            held = self.transport.get_extra_info("socket")
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


class Lane:
    """One direction: ``source`` -> stages -> ``sink``."""

    __slots__ = (
        "_blocks",
        "_count",
        "_counted",
        "_gate",
        "direction",
        "done",
        "ended",
        "failed",
        "head",
        "loop",
        "paused",
        "received",
        "sent",
        "sink",
        "source",
        "stages",
        "write",
    )

    def __init__(self, direction: Direction, loop: asyncio.AbstractEventLoop, count: Count) -> None:
        self.direction: Direction = direction
        self.loop = loop
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.write: Callable[[bytes], None] = self._lose
        self._gate = Gate(self)
        self.head: Stage | None = self._gate
        self.stages: list[Stage] = []
        self.received = 0
        self.sent = 0
        self.paused = False  # the sink's buffer is full
        self.ended = False  # the source has ended
        self.done = False  # the end has come through
        self.failed = False  # something could not be written
        self._blocks = 0
        self._count = count
        self._counted = False

    # --- from the source to the sink --------------------------------------------------------------
    def deliver(self, data: bytes) -> None:
        """The chain's exit."""
        if not self.done:
            self.sent += len(data)
            self.write(data)

    def end(self) -> None:
        """The source has ended."""
        if self.ended:
            return
        self.ended = True
        self._count(self.direction, "received", self.received)
        if self.head is None:
            self.finish()
        else:
            self.head.end()

    def finish(self) -> None:
        """The end has come out of the chain: close the sink when it has written all."""
        if self.done:
            return
        self.done = True
        if self.sink is None or self.sink.is_closing():
            self._count_sent()
        else:
            self.sink.close()

    def sink_lost(self) -> None:
        self.write = self._lose
        self.failed = self.failed or self.paused
        if self.done:
            self._count_sent()

    def give_up(self) -> None:
        """Both sockets are gone: nothing that is held can arrive any more."""
        self.failed = self.failed or any(stage.holds() for stage in self.stages)
        for stage in self.stages:
            stage.cancel()
            stage.closed = True
        self._count_sent()
        self.done = True

    def _lose(self, data: bytes) -> None:
        self.failed = True

    def _count_sent(self) -> None:
        if not self._counted:
            self._counted = True
            if not self.failed:
                self._count(self.direction, "sent", self.sent)

    # --- back-pressure ------------------------------------------------------------------------------
    def block(self) -> None:
        """Somebody downstream holds as much as it may: stop reading."""
        self._blocks += 1
        if self._blocks == 1 and self.source is not None and not self.source.is_closing():
            self.source.pause_reading()

    def unblock(self) -> None:
        self._blocks -= 1
        if self._blocks == 0 and self.source is not None and not self.source.is_closing():
            self.source.resume_reading()

    # --- toxics ---------------------------------------------------------------------------------------
    def open(self, specs: Iterable[ToxicSpec]) -> None:
        """Both sockets are there: let data through, by these toxics."""
        self.stages = [make_stage(self, spec) for spec in specs]
        self._link()
        self._gate.next = self.head
        self._gate.open()

    def add(self, spec: ToxicSpec) -> None:
        if self.ended or self.done:
            return
        stage = make_stage(self, spec)
        self.stages.append(stage)
        self._link()

    def change(self, spec: ToxicSpec) -> None:
        """The toxicity is drawn anew; what was held goes on, bytes counted stay counted."""
        for place, old in enumerate(self.stages):
            if old.spec.name == spec.name and not old.busy() and not old.closed:
                new = make_stage(self, spec)
                if isinstance(old, LimitData) and isinstance(new, LimitData):
                    new.passed = old.passed
                old.flush()
                old.cancel()
                self.stages[place] = new
                self._link()

    def remove(self, name: str) -> None:
        """A removed toxic lets go of what it holds, except ``timeout``, which ends the connection."""
        for stage in [stage for stage in self.stages if stage.spec.name == name]:
            if stage.busy():
                continue
            stage.flush()
            if stage.closes_when_removed:
                stage.emit_end()
            if stage.closed:
                continue  # the end is under way behind it; it may stay
            stage.cancel()
            self.stages.remove(stage)
            self._link()

    def _link(self) -> None:
        self.head = self.stages[0] if self.stages else None
        for place, stage in enumerate(self.stages):
            stage.next = self.stages[place + 1] if place + 1 < len(self.stages) else None
