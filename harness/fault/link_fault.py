"""What faults on links share: which links, their proof, the neighbours, the look for a bypass.

Proof has four parts:

1. a canary through each touched link was answered before, and behaves as the fault demands while it
   lasts (no reply, refused, slower, reset);
2. canaries through links next to them still flow, so it is this edge that is broken and not everything;
3. each client really goes through its proxies: it holds connections to one of them at least, and none
   to a server's own address, at any look until the end. A service that bypasses its proxy feels no
   fault, whatever a canary says;
4. right before it is healed the engine still has it on each link.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Link
from harness.fault.base import Context, Fault, OnLinks, P
from harness.fault.selection import Cut, Stream, neighbours
from harness.toxiproxy.canary import Canary, Protocol, probe
from harness.toxiproxy.links import LinkState
from harness.toxiproxy.toxics import ResetPeer, Toxic

CANARY_TIMEOUT_S = 1.0
LEAST_TIMEOUT_S = 0.1
CANARIES_BEFORE = 3
WATCH_S = 1.0  # between two looks at the clients' connections
BEFORE_S = 0.5  # for the look before anything is broken
AFTER_S = 0.5  # for the look right before the healing
NEIGHBOURS_LOOKED_AT = 4


class LinkFault(Fault[P]):
    """What network faults share: which links, the proof of each, the neighbours, the look for a bypass."""

    family = "network"
    on_links: ClassVar[OnLinks | None] = "shaped"
    _cut: tuple[Cut, ...] = ()

    @abstractmethod
    def cuts(self) -> tuple[Cut, ...]:
        """Which links and streams are meant, roles resolved now."""

    @abstractmethod
    def look(self, cut: Cut) -> Effect:
        """Whether the effect shows on this link now."""

    @abstractmethod
    def effect(self) -> str:
        """What was seen, where it was seen, in a few words."""

    @abstractmethod
    def in_place(self, cut: Cut, state: LinkState) -> bool:
        """Whether the engine still has this fault on this link."""

    def claim(self) -> None:
        """Resolve the links. Refuses those that another fault opens and closes.

        Two such faults on one link would heal each other, and under either no canary is answered
        before: neither would be proved. A file whose times allow it is refused beforehand; this is for a
        healing that took longer than it may.
        """
        self._cut = self.cuts()
        self.seen["touched"] = tuple(cut.link for cut in self._cut)
        held = [cut.link for cut in self._cut if _held(self.context.links.state(cut.link))]
        if held:
            raise EnvironmentBroken(f"another fault cuts {', '.join(held)} already")

    def note_before(self) -> None:
        with ThreadPoolExecutor(len(self._cut)) as pool:
            fastest = list(pool.map(self._fastest_answer, self._cut))
        self.seen["before_ms"] = {cut.link: ms for cut, ms in zip(self._cut, fastest, strict=True)}
        self.seen["through_proxy"] = self._clients()
        self._await_use()

    def _await_use(self) -> None:
        """A client that opens a connection for each request has none at some instants."""
        deadline = time.monotonic() + BEFORE_S
        while self._idle() and time.monotonic() < deadline and not self.context.stopping():
            self.context.sleep(0.05)
            self._look_at_clients()

    def _fastest_answer(self, cut: Cut) -> float | None:
        """Round trip, milliseconds; None when nothing answers. One that is silent is asked once."""
        times: list[float] = []
        for _ in range(CANARIES_BEFORE):
            canary = self.canary(cut.link)
            if self.protocol(cut.link) == "tcp" and canary.silent:
                return 0.0  # nothing can be asked: that it holds is all there is
            if canary.rtt_ms is None:
                break
            times.append(canary.rtt_ms)
        return round(min(times), 3) if times else None

    def canary(self, link: str) -> Canary:
        return canary_through(self.context, link, self.patience_s())

    def patience_s(self, longest_s: float = CANARY_TIMEOUT_S) -> float:
        """How long a canary may be waited for: not past the healing."""
        return max(LEAST_TIMEOUT_S, min(longest_s, self.seconds_left() - AFTER_S))

    def observe(self) -> None:
        """All at once: a canary that waits for nothing waits long. Then: who uses the links?"""
        beside = neighbours_worth_asking(self.context, self.seen["touched"])
        with ThreadPoolExecutor(len(self._cut) + len(beside)) as pool:
            flowing = [pool.submit(self.canary, link.name) for link in beside]
            effects = list(pool.map(self.look, self._cut))
        self.seen["during"] = {
            cut.link: asdict(effect) for cut, effect in zip(self._cut, effects, strict=True)
        }
        self.seen["neighbours"] = {
            link.name: flows.result().replied for link, flows in zip(beside, flowing, strict=True)
        }
        self._watch_clients()

    def _watch_clients(self) -> None:
        """To the end: an idle link may come into use, and a cut client may go around its proxy."""
        while True:
            self._look_at_clients()
            if self.seconds_left() <= AFTER_S or self.context.stopping():
                return
            self.context.sleep(min(WATCH_S, self.seconds_left() - AFTER_S))

    def _look_at_clients(self) -> None:
        seen, now = self.seen["through_proxy"], self._clients()
        self.seen["through_proxy"] = {
            link: {key: max(row[key], now[link][key]) for key in row} for link, row in seen.items()
        }

    def _idle(self) -> list[str]:
        rows = self.seen["through_proxy"]
        return idle_clients([self.context.spec.links[link] for link in rows], rows)

    def _clients(self) -> dict[str, dict[str, int]]:
        """Per link: connections that its client holds now to the proxy, and past it."""
        return {cut.link: connections(self.context, cut.link) for cut in self._cut}

    def still(self) -> None:
        """The engine may have been told otherwise since, by another fault's healing."""
        links = self.context.links
        self.seen["at_end"] = {cut.link: self.in_place(cut, links.state(cut.link)) for cut in self._cut}

    def listen(self, link: str) -> str:
        return str(self.context.runtime.link(link).listen)

    def upstream(self, link: str) -> str:
        return str(self.context.runtime.link(link).upstream)

    def protocol(self, link: str) -> Protocol:
        return self.context.spec.links[link].protocol

    def proof(self) -> Proof:
        why_not = (
            self._not_everywhere()
            or self._not_felt()
            or not_here_alone(self.seen["neighbours"])
            or self._not_to_the_end()
        )
        if why_not:
            return Proof(proved=False, text=why_not, observed=dict(self.seen))
        text = f"{self.effect()} on {', '.join(self.touched())}{flowed_on(self.seen['neighbours'])}"
        return Proof(proved=True, text=text, observed=dict(self.seen))

    def _not_everywhere(self) -> str | None:
        """Every link must have answered before, and show the effect: a dead one cannot be seen to be cut."""
        if "during" not in self.seen:
            return "it was not looked at while it lasted"
        dead = [link for link, ms in self.seen["before_ms"].items() if ms is None]
        if dead:
            return f"no canary was answered before the fault either on {', '.join(dead)}"
        missing = [link for link, row in self.seen["during"].items() if not row["proved"]]
        return "; ".join(f"{link}: {self.seen['during'][link]['text']}" for link in missing) or None

    def _not_felt(self) -> str | None:
        """Clients that go around the proxy, or were never seen to use it."""
        rows: dict[str, dict[str, int]] = self.seen["through_proxy"]
        around = [link for link, row in rows.items() if row["bypass"]]
        if around:
            return f"the client has connections past the proxy on {', '.join(around)}"
        idle = self._idle()
        return f"{', '.join(idle)} was not seen to hold a connection to these proxies" if idle else None

    def _not_to_the_end(self) -> str | None:
        ended = [link for link in self.touched() if not self.seen.get("at_end", {}).get(link)]
        return f"the engine did not have it to the end on {', '.join(ended)}" if ended else None

    def add(self, make: Callable[[Stream], Toxic]) -> None:
        for cut in self._cut:
            for stream in cut.streams:
                self.context.links.add_toxic(cut.link, toxic_name(self, stream), make(stream))

    def has_toxics(self, cut: Cut, state: LinkState) -> bool:
        return all(toxic_name(self, stream) in state.toxics for stream in cut.streams)

    def toxic_healings(self) -> tuple[Healing, ...]:
        return tuple(
            Healing(action="remove_toxic", args={"link": cut.link, "toxic": toxic_name(self, stream)})
            for cut in self._cut
            for stream in cut.streams
        )


@dataclass(frozen=True)
class Effect:
    """What was seen on one link; ``text`` says it for people."""

    proved: bool
    text: str


def toxic_name(fault: Fault[Any], stream: Stream) -> str:
    """Unique per fault instance, so that overlapping faults do not heal each other."""
    return f"{fault.id}-{stream}"


def canary_through(context: Context, link: str, timeout_s: float) -> Canary:
    listen = str(context.runtime.link(link).listen)
    return probe(listen, context.spec.links[link].protocol, timeout_s, context.stopping)


def neighbours_worth_asking(context: Context, touched: Iterable[str]) -> tuple[Link, ...]:
    """Links beside the touched ones; those of servers that are down anyhow say nothing."""
    spec, runtime = context.spec, context.runtime
    running = {name for name in spec.services if runtime.state(name).status == "running"}
    links = neighbours(touched, spec)
    return tuple(link for link in links if link.server in running)[:NEIGHBOURS_LOOKED_AT]


def not_here_alone(neighbours: Mapping[str, bool]) -> str | None:
    """Why it may be everything that is broken. ``neighbours``: which links beside it flowed meanwhile."""
    return "the links beside it did not flow either" if neighbours and not any(neighbours.values()) else None


def flowed_on(neighbours: Mapping[str, bool]) -> str:
    """For people, to be put behind what was seen."""
    flowing = [name for name, flows in neighbours.items() if flows]
    return f"; {', '.join(flowing)} flowed on" if flowing else ""


def _held(state: LinkState) -> bool:
    return not state.enabled or any(isinstance(toxic, ResetPeer) for toxic in state.toxics.values())


def idle_clients(links: Sequence[Link], rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Clients that use none of their links here.

    A client need not use each of them (a standby has no callers), but one. Where two call each other,
    as database nodes do, it is enough that one of them does: it is the same edge.
    """
    used = [link for link in links if rows[link.name]["proxy"]]
    calling = {link.client for link in used}
    called_by = {(link.server, link.client) for link in used}
    active = calling | {link.client for link in links if (link.client, link.server) in called_by}
    return list(dict.fromkeys(link.client for link in links if link.client not in active))


def connections(context: Context, link_name: str) -> dict[str, int]:
    """How many connections the link's client holds to the proxy, and straight to the server."""
    ends = context.runtime.link(link_name)
    client = context.spec.links[link_name].client
    if client not in context.spec.services:
        return {"proxy": 1, "bypass": 0}  # the load itself: the driver is handed the proxy's address
    held = context.runtime.connections(client)
    return {"proxy": held.count(ends.listen), "bypass": held.count(ends.upstream)}
