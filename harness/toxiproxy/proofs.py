"""What canaries and byte counters can prove about a fault on a link: one function per question.

Tried on the real server and on the built-in engine (``tests/conformance/toxiproxy``); each answer is
False when the toxic is not there, and True when it is:

``one_way``/``drop``   The canary's connection is left open and unanswered; then it is closed, and the
                   link's counters say how far its bytes came. Request vanished: ``received_up`` grew
                   by the request, ``sent_up`` by nothing. Reply vanished: ``received_down`` grew,
                   ``sent_down`` did not. Both engines count when a connection closes, so the window
                   is a few hundredths of a second and other traffic seldom falls into it; when it
                   does, the canary is repeated, and at last the difference of the sums decides.
                   With both ways cut there is no reply that could vanish: only the way up is proved
                   (and the way down where the server speaks first, as NATS does).
``reject``         The engine says that the link is disabled, and a canary is refused. Behind a port
                   that Docker publishes it is accepted and ended at once; that counts as well.
``latency``        The fastest of several canaries is slower than the fastest past the proxy, and than
                   the fastest before the fault, by what was asked for. A slow server alone cannot do
                   that, nor the proxy's own time: each is in one of the comparisons.
``reset``          The canary's new connection ends by RST, one past the proxy does not. Connections
                   from before the toxic end without RST, idle ones never: neither can be seen here.
``slow_close``     The canary ends its side; a proxy ends the other at once, with the toxic later.
``limit_data``     One connection is ended after exactly so many bytes. Needs volume: HTTP and NATS.
``bandwidth``      One connection carries no more per second, past the proxy it does. Needs volume.
``slicer``         Answers come in as many pieces as there are slices (``downstream``), or take as much
                   longer as the slices' delays (``upstream``). Needs volume and a delay of 1 ms.

None of this sees a service that goes around its proxy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from harness.toxiproxy.canary import Call, Canary, Protocol, probe
from harness.toxiproxy.links import LinkBytes, LinkLayer
from harness.toxiproxy.toxics import Bandwidth, Latency, LimitData, Slicer, SlowClose, Stream
from harness.toxiproxy.volume import Volume, carry

Way = Literal["both", "to", "from"]
GiveUp = Callable[[], bool]  # asked while a canary waits; true ends it, unanswered

SETTLE_S = 0.06  # both engines have counted a closed connection long before
COUNT_PATIENCE_S = 2.0
NEARLY = 0.8  # of what was asked for is near enough: timers and other traffic blur it
PACE_S = 0.3  # how long a rate is watched
PACE_BYTES = 600_000


def never() -> bool:
    return False


# --- partitions -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class OneWay:
    """How far a canary's request and its reply came. None: not to be told.

    ``moved`` are the link's counters from before to after the canary's end, ``exact`` when they hold
    the canary's bytes and nothing else.
    """

    canary: Canary
    request_vanished: bool | None = None
    reply_vanished: bool | None = None
    moved: LinkBytes | None = None
    exact: bool = False


def one_way(
    links: LinkLayer,
    name: str,
    listen: str,
    protocol: Protocol,
    *,
    timeout_s: float = 1.0,
    tries: int = 3,
    give_up: GiveUp = never,
) -> OneWay:
    """Does the request get through while replies vanish, or the reverse? Up to ``tries`` canaries."""
    seen = OneWay(Canary(connected=False))
    for _ in range(tries):
        seen = _one_canary(links, name, listen, protocol, timeout_s, give_up)
        if seen.exact or seen.moved is None or give_up():
            break
    return seen


def _one_canary(
    links: LinkLayer, name: str, listen: str, protocol: Protocol, timeout_s: float, give_up: GiveUp
) -> OneWay:
    call = Call(listen, protocol, timeout_s, give_up)
    try:
        canary = call.canary
        if canary.replied:
            return OneWay(canary, request_vanished=False, reply_vanished=False, exact=True)
        if not canary.silent or not canary.request_bytes:
            return OneWay(canary)
        before = links.bytes_closed(name)
    finally:
        call.close()
    moved = _counted(links, name, before, lambda growth: growth.received_up >= canary.request_bytes)
    exact = moved.received_up == canary.request_bytes
    missing_up = moved.received_up - moved.sent_up
    missing_down = moved.received_down - moved.sent_down
    return OneWay(
        canary,
        request_vanished=missing_up >= canary.request_bytes,
        reply_vanished=missing_down > 0 if moved.received_down else None,
        moved=moved,
        exact=exact,
    )


def _counted(links: LinkLayer, name: str, before: LinkBytes, begun: Callable[[LinkBytes], bool]) -> LinkBytes:
    """The counters' growth once a just closed connection is in them; ``begun`` tells that it comes.

    The end itself goes through the toxics, so what delays it delays the counting.
    """
    deadline = time.monotonic() + COUNT_PATIENCE_S
    while not begun(links.bytes_closed(name) - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    toxics = links.toxics(name).values()
    delays_ms = sum(toxic.latency + toxic.jitter for toxic in toxics if isinstance(toxic, Latency))
    delays_ms += sum(toxic.delay for toxic in toxics if isinstance(toxic, SlowClose))
    time.sleep(SETTLE_S + min(delays_ms / 1000, COUNT_PATIENCE_S))
    return links.bytes_closed(name) - before


@dataclass(frozen=True)
class Drop:
    """``way``: ``to`` the server (requests vanish), ``from`` it (replies vanish), ``both``."""

    proved: bool
    way: Way
    seen: OneWay


def drop(
    links: LinkLayer,
    name: str,
    listen: str,
    protocol: Protocol,
    way: Way,
    *,
    timeout_s: float = 1.0,
    tries: int = 3,
    give_up: GiveUp = never,
) -> Drop:
    """Does data vanish on just this way, while connections stay open?"""
    seen = one_way(links, name, listen, protocol, timeout_s=timeout_s, tries=tries, give_up=give_up)
    request, reply = seen.request_vanished, seen.reply_vanished
    effect = {
        "both": request is True and reply is not False,
        "to": request is True and reply is not True,
        "from": request is False and reply is True,
    }[way]
    return Drop(seen.canary.silent and effect, way, seen)


@dataclass(frozen=True)
class Reject:
    """``disabled``: what the engine says of the link."""

    proved: bool
    disabled: bool
    canary: Canary


def reject(links: LinkLayer, name: str, listen: str, *, timeout_s: float = 1.0) -> Reject:
    """Are new connections refused because the link is disabled?"""
    canary = probe(listen, "tcp", timeout_s)
    disabled = not links.state(name).enabled
    return Reject(disabled and (canary.refused or canary.ended), disabled, canary)


# --- time -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Slower:
    """Fastest canary through the link, and what it is compared with, milliseconds."""

    proved: bool
    at_least_ms: float
    through_ms: float | None
    compared_ms: float | None
    unanswered: int

    @property
    def added_ms(self) -> float | None:
        if self.through_ms is None or self.compared_ms is None:
            return None
        return self.through_ms - self.compared_ms


def latency(
    listen: str,
    protocol: Protocol,
    *,
    at_least_ms: float,
    at_most_ms: float = math.inf,
    direct: str | None = None,
    before_ms: float | None = None,
    canaries: int = 3,
    rounds: int = 4,
    timeout_s: float = 5.0,
    give_up: GiveUp = never,
) -> Slower:
    """Is every canary slower by ``at_least_ms``, and the fastest by no more than ``at_most_ms``?

    Slower than the slower one of two: the fastest through the link before the fault (``before_ms``: a
    proxy's own time is in it), and the fastest past the proxy now (``direct``, ``host:port``: a server
    that has become slow is slow there too). The timeout must leave room for the latency of both ways.
    """
    through: list[Canary] = []
    beside: list[Canary] = []
    for _ in range(rounds):
        through += _fly(listen, protocol, canaries, timeout_s, give_up)
        if direct is not None:
            beside += _fly(direct, protocol, canaries, timeout_s, give_up)
        compared_ms = max((ms for ms in (before_ms, _fastest(beside)) if ms is not None), default=None)
        seen = _slower(through, compared_ms, at_least_ms, at_most_ms)
        if seen.proved or seen.unanswered or give_up():
            break
    return seen


def _slower(
    through: list[Canary], compared_ms: float | None, at_least_ms: float, at_most_ms: float
) -> Slower:
    fastest = _fastest(through)
    unanswered = sum(canary.rtt_ms is None for canary in through)
    proved = (
        fastest is not None
        and compared_ms is not None
        and not unanswered
        and at_least_ms <= fastest - compared_ms <= at_most_ms
    )
    return Slower(proved, at_least_ms, fastest, compared_ms, unanswered)


def _fly(listen: str, protocol: Protocol, canaries: int, timeout_s: float, give_up: GiveUp) -> list[Canary]:
    """Several at once: a latency of seconds is not waited for several times."""
    with ThreadPoolExecutor(canaries) as pool:
        return list(pool.map(lambda _: probe(listen, protocol, timeout_s, give_up), range(canaries)))


def _fastest(canaries: list[Canary]) -> float | None:
    return min((canary.rtt_ms for canary in canaries if canary.rtt_ms is not None), default=None)


@dataclass(frozen=True)
class LateEnd:
    """Milliseconds from the client's end to the other's; None: not within the time given."""

    proved: bool
    at_least_ms: float
    ended_after_ms: float | None
    canary: Canary


def slow_close(
    listen: str, protocol: Protocol, toxic: SlowClose, *, timeout_s: float | None = None
) -> LateEnd:
    """Does a connection's end arrive late? Give ``timeout_s`` more than the toxic's delay."""
    patience_s = timeout_s or toxic.delay / 1000 + 2
    at_least_ms = NEARLY * toxic.delay
    call = Call(listen, protocol, patience_s)
    try:
        after_s = call.seconds_to_end(patience_s) if call.canary.replied else None
    finally:
        call.close()
    proved = after_s is not None and after_s * 1000 >= max(at_least_ms, 1.0)
    return LateEnd(proved, at_least_ms, None if after_s is None else after_s * 1000, call.canary)


# --- endings --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reset:
    """``direct``: a canary past the proxy at the same time, where there is a way."""

    proved: bool
    canary: Canary
    direct: Canary | None


def reset(
    listen: str,
    protocol: Protocol,
    *,
    timeout_s: float,
    direct: str | None = None,
    give_up: GiveUp = never,
) -> Reset:
    """Does a new connection end by RST? ``timeout_s`` must exceed the toxic's own timeout."""
    canary = probe(listen, protocol, timeout_s, give_up)
    beside = probe(direct, protocol, timeout_s) if direct else None
    return Reset(canary.reset and (beside is None or beside.replied), canary, beside)


@dataclass(frozen=True)
class Cut:
    """One connection that was fed until it ended. ``passed``: bytes that came through on that stream."""

    proved: bool
    limit: int
    passed: int
    volume: Volume


def limit_data(
    links: LinkLayer, name: str, listen: str, protocol: Protocol, toxic: LimitData, *, timeout_s: float = 5.0
) -> Cut:
    """Does a connection end after exactly as many bytes as the limit?"""
    more = toxic.bytes + 1
    upstream = toxic.stream == "upstream"
    before = links.bytes_closed(name)
    volume = carry(
        listen, protocol, up=more if upstream else 1, down=0 if upstream else more, timeout_s=timeout_s
    )
    if upstream:
        passed = (
            _counted(links, name, before, lambda growth: growth.sent_up > 0).sent_up
            if volume.ended
            else volume.sent
        )
    else:
        passed = volume.received
    return Cut(volume.ended and passed == toxic.bytes, toxic.bytes, passed, volume)


# --- pace -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Pace:
    """Bytes per second on one stream of one connection, through the link and past it."""

    proved: bool
    asked: float
    through: float
    direct: float | None
    volume: Volume


def bandwidth(
    listen: str, protocol: Protocol, toxic: Bandwidth, *, direct: str | None = None, timeout_s: float = 10.0
) -> Pace:
    """Does a connection carry no more than the rate, though past the proxy it carries twice that?

    A rate so high that ``PACE_BYTES`` pass it in no time cannot be told from none: not proved.
    """
    asked = toxic.rate * 1000.0
    wanted = min(round(asked * PACE_S), PACE_BYTES)
    through = _pace(listen, protocol, toxic.stream, wanted, timeout_s)
    beside = _pace(direct, protocol, toxic.stream, wanted, timeout_s) if direct else None
    rate = _rate(through, toxic.stream)
    free = _rate(beside, toxic.stream) if beside else None
    watched = through.elapsed_s >= PACE_S / 3 and through.answers > 0
    proved = watched and rate <= asked / NEARLY and (free is None or free >= 2 * rate)
    return Pace(proved, asked, rate, free, through)


def _pace(listen: str, protocol: Protocol, stream: Stream, wanted: int, timeout_s: float) -> Volume:
    up, down = (wanted, 0) if stream == "upstream" else (1, wanted)
    return carry(listen, protocol, up=up, down=down, timeout_s=timeout_s)


def _rate(volume: Volume, stream: Stream) -> float:
    carried = volume.sent if stream == "upstream" else volume.received
    return carried / volume.elapsed_s if volume.elapsed_s > 0 else 0.0


@dataclass(frozen=True)
class Sliced:
    """One answer through the link: in how many pieces, how much slower than past it; and what slices make."""

    proved: bool
    pieces: int
    slices: int
    added_ms: float
    gaps_ms: float
    volume: Volume


def slicer(
    listen: str, protocol: Protocol, toxic: Slicer, *, direct: str | None = None, timeout_s: float = 5.0
) -> Sliced:
    """Is data sliced? Told by pieces and time downstream, by time alone upstream.

    One exchange of a few hundred bytes: slices larger than that leave nothing to see.
    """
    quiet_s = 0.05 + 2 * toxic.delay / 1_000_000
    volume = carry(listen, protocol, up=1, down=0, timeout_s=timeout_s, quiet_s=quiet_s)
    beside = carry(direct, protocol, up=1, down=0, timeout_s=timeout_s, quiet_s=quiet_s) if direct else None
    upstream = toxic.stream == "upstream"
    slices = (volume.sent if upstream else volume.received) // (toxic.average_size + toxic.size_variation)
    gaps_ms = max(slices - 1, 0) * toxic.delay / 1000
    added_ms = (volume.elapsed_s - (beside.elapsed_s if beside else 0.0)) * 1000
    in_time = gaps_ms >= 1 and added_ms >= NEARLY * gaps_ms
    in_pieces = upstream or volume.pieces >= max(2, round(NEARLY * slices))
    answered = volume.answers > 0 and (beside is None or beside.answers > 0)
    return Sliced(answered and in_time and in_pieces, volume.pieces, slices, added_ms, gaps_ms, volume)
