"""What faults on links share: which links, their proof, the neighbours, the look for a bypass.

Proof has three parts, each looked at while the fault lasts:

1. a canary through each touched link behaves as the fault demands (no reply, refused, slower, reset);
2. canaries through links next to them still flow, so it is this edge that is broken and not everything;
3. the client service really goes through that proxy: it holds connections to the proxy, and none to
   the server's own address. A service that bypasses its proxy feels no fault, whatever a canary says.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Link
from harness.fault.base import Context, Fault, P
from harness.fault.selection import Cut, Stream, neighbours
from harness.toxiproxy.canary import Protocol, probe
from harness.toxiproxy.toxics import Toxic

CANARY_TIMEOUT_S = 1.0
BEFORE_S = 0.5  # for the look before anything is broken
AFTER_S = 0.5  # for the look right before the healing
NEIGHBOURS_LOOKED_AT = 4


class LinkFault(Fault[P]):
    """What network faults share: which links, the proof of each, the neighbours, the look for a bypass."""

    family = "network"
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

    def note_before(self) -> None:
        self.seen["touched"] = tuple(cut.link for cut in self._cut)
        self.seen["answered_before"] = {
            cut.link: probe(self.listen(cut.link), self.protocol(cut.link), CANARY_TIMEOUT_S).replied
            for cut in self._cut
        }
        self.seen["through_proxy"] = through_proxy(self.context, self._cut, for_s=0.5)

    def observe(self) -> None:
        """All links at once: a canary that waits for nothing waits long. Then: who uses the links?"""
        with ThreadPoolExecutor(len(self._cut)) as pool:
            effects = list(pool.map(self.look, self._cut))
        self.seen["during"] = {
            cut.link: asdict(effect) for cut, effect in zip(self._cut, effects, strict=True)
        }
        self.seen["neighbours"] = {
            link.name: probe(self.listen(link.name), link.protocol, CANARY_TIMEOUT_S).replied
            for link in self._neighbours_worth_asking()
        }
        self._watch_clients()

    def _watch_clients(self) -> None:
        """A link that was idle before may come into use only now, so look while there is time."""
        before: dict[str, dict[str, int]] = self.seen["through_proxy"]
        unused = not any(row["proxy"] for row in before.values())
        during = through_proxy(
            self.context, self._cut, for_s=max(0.0, self.seconds_left() - 0.5) if unused else 0.0
        )
        self.seen["through_proxy"] = {
            link: {key: max(row[key], during[link][key]) for key in row} for link, row in before.items()
        }

    def listen(self, link: str) -> str:
        return str(self.context.runtime.link(link).listen)

    def upstream(self, link: str) -> str:
        return str(self.context.runtime.link(link).upstream)

    def protocol(self, link: str) -> Protocol:
        return self.context.spec.links[link].protocol

    def _neighbours_worth_asking(self) -> tuple[Link, ...]:
        """Links beside the touched ones; those of servers that are down anyhow say nothing."""
        spec, runtime = self.context.spec, self.context.runtime
        running = {name for name in spec.services if runtime.state(name).status == "running"}
        links = neighbours(self.seen["touched"], spec)
        return tuple(link for link in links if link.server in running)[:NEIGHBOURS_LOOKED_AT]

    def proof(self) -> Proof:
        why_not = self._not_everywhere() or self._not_felt() or self._not_here_alone()
        if why_not:
            return Proof(proved=False, text=why_not, observed=dict(self.seen))
        flowing = [name for name, flows in self.seen["neighbours"].items() if flows]
        beside = f"; {', '.join(flowing)} flowed on" if flowing else ""
        text = f"{self.effect()} on {', '.join(self.touched())}{beside}"
        return Proof(proved=True, text=text, observed=dict(self.seen))

    def _not_everywhere(self) -> str | None:
        """Every link that answered before must show the effect, and at least one must have answered."""
        if "during" not in self.seen:
            return "it was not looked at while it lasted"
        answered = [link for link, replied in self.seen["answered_before"].items() if replied]
        if not answered:
            return "no canary was answered on any of these links before the fault either"
        missing = [link for link in answered if not self.seen["during"][link]["proved"]]
        return "; ".join(f"{link}: {self.seen['during'][link]['text']}" for link in missing) or None

    def _not_felt(self) -> str | None:
        """Clients that go around the proxy, or were never seen to use it."""
        rows: dict[str, dict[str, int]] = self.seen["through_proxy"]
        around = [link for link, row in rows.items() if row["bypass"]]
        if around:
            return f"the client has connections past the proxy on {', '.join(around)}"
        if not any(row["proxy"] for row in rows.values()):
            return "no client was seen to hold a connection to any of these proxies"
        return None

    def _not_here_alone(self) -> str | None:
        flowing: dict[str, bool] = self.seen["neighbours"]
        return "the links beside it did not flow either" if flowing and not any(flowing.values()) else None

    def add(self, make: Callable[[Stream], Toxic]) -> None:
        for cut in self._cut:
            for stream in cut.streams:
                self.context.links.add_toxic(cut.link, toxic_name(self, stream), make(stream))

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


def through_proxy(context: Context, cuts: tuple[Cut, ...], for_s: float) -> dict[str, dict[str, int]]:
    """Per link: connections of its client to the proxy, and past it; the most seen at once.

    Looks at least once, and again until any of them is in use or ``for_s`` is over.
    """
    seen = {cut.link: {"proxy": 0, "bypass": 0} for cut in cuts}
    deadline = time.monotonic() + for_s
    while True:
        for cut in cuts:
            count = connections(context, cut.link)
            seen[cut.link] = {key: max(seen[cut.link][key], count[key]) for key in count}
        used = any(row["proxy"] for row in seen.values())
        if used or time.monotonic() >= deadline or context.stopping():
            return seen
        time.sleep(0.05)


def connections(context: Context, link_name: str) -> dict[str, int]:
    """How many connections the link's client holds to the proxy, and straight to the server."""
    ends = context.runtime.link(link_name)
    client = context.spec.links[link_name].client
    if client not in context.spec.services:
        return {"proxy": 1, "bypass": 0}  # the load itself: the driver is handed the proxy's address
    held = context.runtime.connections(client)
    return {"proxy": held.count(ends.listen), "bypass": held.count(ends.upstream)}
