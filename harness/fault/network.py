"""The network: partition, latency, reset; on the links of the target, through Toxiproxy.

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
from typing import Any, Literal

from pydantic import field_validator, model_validator

from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.target import Frozen, Link, TargetSpec
from harness.experiment.units import Seconds
from harness.experiment.vocabulary import Names
from harness.fault.base import Context, Fault, P
from harness.fault.selection import (
    Cut,
    Direction,
    Stream,
    expand_services,
    links_between,
    matching_links,
    neighbours,
)
from harness.toxiproxy import proofs
from harness.toxiproxy.canary import Protocol, probe
from harness.toxiproxy.toxics import Latency as LatencyToxic
from harness.toxiproxy.toxics import ResetPeer, Timeout, Toxic

CANARY_TIMEOUT_S = 1.0
NEIGHBOURS_LOOKED_AT = 4
NEARLY = 0.8  # of the latency asked for is near enough: other traffic blurs it


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


class PartitionParams(Frozen):
    """``between``: two sets of services, roles or patterns; see the fault catalogue for the modes."""

    between: tuple[Names, Names]
    mode: Literal["drop", "reject"] = "drop"
    direction: Direction = "both"

    @field_validator("between", mode="before")
    @classmethod
    def _two_sides(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError("between takes two sides, such as [payments, psp-a] or [payments, [db-1, db-2]]")
        return value

    @model_validator(mode="after")
    def _reject_is_both(self) -> PartitionParams:
        if self.mode == "reject" and self.direction != "both":
            raise ValueError(
                "mode reject closes the connection, so it has no direction; use mode drop for one way"
            )
        return self


class Partition(LinkFault[PartitionParams]):
    """Cuts every link between two sets of services.

    ``drop``: connections stay open and nothing arrives (on one stream with ``direction`` to or
    from); healing closes them. ``reject``: open connections end and new ones are refused.
    """

    name = "partition"
    Params = PartitionParams

    @classmethod
    def touches(cls, params: PartitionParams, spec: TargetSpec) -> tuple[str, ...]:
        return tuple(cut.link for cut in cls._cuts(params, spec, lambda name: spec.roles[name].members))

    @classmethod
    def proof_needed(cls, params: PartitionParams) -> str:
        effect = {
            "reject": "a canary through each cut link is refused",
            "drop": "a canary through each cut link gets no reply",
        }[params.mode]
        return f"{effect}, the links beside them flow, and the clients use the proxies"

    @staticmethod
    def _cuts(params: PartitionParams, spec: TargetSpec, holders: Any) -> tuple[Cut, ...]:
        def resolve(name: str) -> tuple[str, ...]:
            return holders(name) if name in spec.roles else (name,)

        first, second = (expand_services(side, spec) for side in params.between)
        return links_between(first, second, params.direction, spec, resolve)

    def cuts(self) -> tuple[Cut, ...]:
        def holder(role: str) -> tuple[str, ...]:
            service = self.context.runtime.role(role)
            return (service,) if service else ()

        return self._cuts(self.params, self.context.spec, holder)

    def healings(self) -> tuple[Healing, ...]:
        self._cut = self.cuts()
        if self.params.mode == "reject":
            return tuple(Healing(action="enable_link", args={"link": cut.link}) for cut in self._cut)
        return self.toxic_healings()

    def inject(self) -> None:
        self.note_before()
        if self.params.mode == "reject":
            for cut in self._cut:
                self.context.links.set_enabled(cut.link, False)
        else:
            self.add(lambda stream: Timeout(stream=stream, timeout=0))

    def look(self, cut: Cut) -> Effect:
        links, listen = self.context.links, self.listen(cut.link)
        if self.params.mode == "reject":
            refused = proofs.reject(links, cut.link, listen, timeout_s=CANARY_TIMEOUT_S)
            return Effect(refused.proved, "refused" if refused.proved else "a canary was not refused")
        way = way_of(cut)
        seen = proofs.drop(links, cut.link, listen, self.protocol(cut.link), way, timeout_s=CANARY_TIMEOUT_S)
        fate = seen.seen
        text = (
            f"a canary was answered in {fate.canary.rtt_ms:.0f} ms"
            if fate.canary.rtt_ms is not None
            else f"request vanished: {fate.request_vanished}, reply vanished: {fate.reply_vanished}"
        )
        return Effect(seen.proved, text)

    def effect(self) -> str:
        if self.params.mode == "reject":
            return "connections were refused"
        if self.params.direction == "both":
            return "nothing passed, connections stayed open"
        return "one way was silent: " + "; ".join(
            f"{link} {row['text']}" for link, row in self.seen["during"].items()
        )


def way_of(cut: Cut) -> proofs.Way:
    """Seen from the link's client."""
    if len(cut.streams) == 2:
        return "both"
    return "to" if cut.streams == ("upstream",) else "from"


class LatencyParams(Frozen):
    """``links``: patterns; ``latency``, give or take ``vary``, is added to each chunk on ``stream``."""

    links: Names
    latency: Seconds
    vary: Seconds = 0.0
    stream: Literal["both", "upstream", "downstream"] = "downstream"

    @model_validator(mode="after")
    def _sane(self) -> LatencyParams:
        if not 0.001 <= self.latency <= 60:
            raise ValueError(f"latency of {self.latency:g} s is out of range: between 1ms and 60s")
        if self.vary > self.latency:
            raise ValueError("vary above latency would ask for negative delays")
        return self


def streams_of(stream: str) -> tuple[Stream, ...]:
    return ("upstream", "downstream") if stream == "both" else (stream,)  # type: ignore[return-value]


class Latency(LinkFault[LatencyParams]):
    """Every chunk on the links comes later: slow, not broken."""

    name = "latency"
    Params = LatencyParams

    @classmethod
    def touches(cls, params: LatencyParams, spec: TargetSpec) -> tuple[str, ...]:
        return matching_links(params.links, spec)

    @classmethod
    def proof_needed(cls, params: LatencyParams) -> str:
        return f"a canary through each link takes about {params.latency * 1000:g} ms longer than before"

    def cuts(self) -> tuple[Cut, ...]:
        names = matching_links(self.params.links, self.context.spec)
        return tuple(Cut(name, streams_of(self.params.stream)) for name in names)

    def healings(self) -> tuple[Healing, ...]:
        self._cut = self.cuts()
        return self.toxic_healings()

    def inject(self) -> None:
        self.note_before()
        latency_ms, vary_ms = round(self.params.latency * 1000), round(self.params.vary * 1000)
        self.add(lambda stream: LatencyToxic(stream=stream, latency=latency_ms, jitter=vary_ms))

    def look(self, cut: Cut) -> Effect:
        ways = len(cut.streams)
        least_ms = NEARLY * ways * (self.params.latency - self.params.vary) * 1000
        longest_s = 2 * ways * (self.params.latency + self.params.vary) + CANARY_TIMEOUT_S
        slower = proofs.latency(
            self.listen(cut.link),
            self.protocol(cut.link),
            at_least_ms=least_ms,
            direct=self.upstream(cut.link),
            timeout_s=longest_s,
        )
        if slower.added_ms is None:
            return Effect(slower.proved, f"{slower.unanswered} canaries were not answered")
        return Effect(slower.proved, f"{slower.added_ms:.0f} ms slower than past the proxy")

    def effect(self) -> str:
        added = [row["text"] for row in self.seen["during"].values()]
        return f"canaries were {', '.join(added)}"


class ResetParams(Frozen):
    """``after``: how long a connection lives before it is reset."""

    links: Names
    after: Seconds = 0.0


class Reset(LinkFault[ResetParams]):
    """Connections are reset (TCP RST). Pooled ones too: the proxy is bounced so that all are new."""

    name = "reset"
    Params = ResetParams

    @classmethod
    def touches(cls, params: ResetParams, spec: TargetSpec) -> tuple[str, ...]:
        return matching_links(params.links, spec)

    @classmethod
    def proof_needed(cls, params: ResetParams) -> str:
        return "a canary through each link is reset, and the links beside them flow"

    def cuts(self) -> tuple[Cut, ...]:
        names = matching_links(self.params.links, self.context.spec)
        return tuple(Cut(name, ("downstream",)) for name in names)

    def healings(self) -> tuple[Healing, ...]:
        self._cut = self.cuts()
        bounced = tuple(Healing(action="enable_link", args={"link": cut.link}) for cut in self._cut)
        return (*bounced, *self.toxic_healings())

    def inject(self) -> None:
        self.note_before()
        toxic = ResetPeer(stream="downstream", timeout=round(self.params.after * 1000))
        self.add(lambda _stream: toxic)
        for cut in self._cut:
            self.context.links.set_enabled(cut.link, False)
            self.context.links.set_enabled(cut.link, True)

    def look(self, cut: Cut) -> Effect:
        seen = proofs.reset(
            self.listen(cut.link),
            self.protocol(cut.link),
            timeout_s=self.params.after + CANARY_TIMEOUT_S,
            direct=self.upstream(cut.link),
        )
        return Effect(seen.proved, "reset" if seen.proved else f"a canary was not reset: {seen.canary.error}")

    def effect(self) -> str:
        return "connections were reset"
