"""The network: partition, latency, reset; on the links of the target, through Toxiproxy.

Proof has three parts, each looked at while the fault lasts:

1. a canary through each touched link behaves as the fault demands (no reply, refused, slower, reset);
2. canaries through links next to them still flow, so it is this edge that is broken and not everything;
3. the client service really goes through that proxy: it holds connections to the proxy, and none to
   the server's own address. A service that bypasses its proxy feels no fault, whatever a canary says.
"""

from __future__ import annotations

import time
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
from harness.toxiproxy.canary import Canary, probe
from harness.toxiproxy.toxics import Latency as LatencyToxic
from harness.toxiproxy.toxics import ResetPeer, Timeout, Toxic

CANARY_TIMEOUT_S = 1.0
NEIGHBOURS_LOOKED_AT = 4


class LinkFault(Fault[P]):
    """What network faults share: canaries before and during, and the look for a bypass."""

    family = "network"

    def cuts(self) -> tuple[Cut, ...]:
        raise NotImplementedError  # pragma: no cover  (each fault below says which links it means)

    def note_before(self, cuts: tuple[Cut, ...]) -> None:
        """Canaries and the clients' connections while all is well."""
        self.seen["touched"] = tuple(cut.link for cut in cuts)
        self.seen["before"] = {cut.link: figures(self.canary(cut.link)) for cut in cuts}
        self.seen["through_proxy"] = self._through_proxy(cuts, seconds=0.5)

    def canary(self, link: str) -> Canary:
        spec = self.context.spec.links[link]
        return probe(str(self.context.runtime.link(link).listen), spec.protocol, CANARY_TIMEOUT_S)

    def note_neighbours(self) -> None:
        """Links beside the touched ones; those of services that are down anyhow say nothing."""
        flowing: dict[str, bool] = {}
        for link in self._neighbours_worth_asking():
            flowing[link.name] = self.canary(link.name).replied
        self.seen["neighbours"] = flowing

    def _neighbours_worth_asking(self) -> tuple[Link, ...]:
        running = {
            name
            for name in self.context.spec.services
            if self.context.runtime.state(name).status == "running"
        }
        links = neighbours(self.seen["touched"], self.context.spec)
        return tuple(link for link in links if link.server in running)[:NEIGHBOURS_LOOKED_AT]

    def _through_proxy(self, cuts: tuple[Cut, ...], seconds: float) -> dict[str, dict[str, int]]:
        """Per link: connections of its client to the proxy, and past it. The most seen at once."""
        seen = {cut.link: {"proxy": 0, "bypass": 0} for cut in cuts}
        deadline = time.monotonic() + seconds
        while True:
            for cut in cuts:
                count = connections(self.context, cut.link)
                seen[cut.link] = {key: max(seen[cut.link][key], count[key]) for key in count}
            if time.monotonic() >= deadline or all(row["proxy"] for row in seen.values()):
                return seen
            time.sleep(0.05)

    def bypass(self) -> str | None:
        """A sentence when clients go around the proxy, or none was ever seen to use it."""
        rows: dict[str, dict[str, int]] = self.seen.get("through_proxy", {})
        around = [link for link, row in rows.items() if row["bypass"]]
        if around:
            return f"connections past the proxy on {', '.join(around)}"
        if not any(row["proxy"] for row in rows.values()):
            return "no client was seen to hold a connection to any of these proxies"
        return None

    def judge(self, bad: dict[str, str], effect: str) -> Proof:
        """``bad``: link -> what was seen there instead of the effect."""
        flowing: dict[str, bool] = self.seen.get("neighbours", {})
        still = [name for name, flows in flowing.items() if flows]
        if bad:
            text = "; ".join(f"{link}: {what}" for link, what in bad.items())
            return Proof(proved=False, text=text, observed=dict(self.seen))
        if why := self.bypass():
            return Proof(proved=False, text=why, observed=dict(self.seen))
        if flowing and not still:
            return Proof(proved=False, text="the links beside it did not flow either", observed=dict(self.seen))
        text = f"{effect} on {', '.join(self.touched())}; {', '.join(still) or 'no neighbour to ask'} flowed on"
        return Proof(proved=True, text=text, observed=dict(self.seen))

    def add(self, cuts: tuple[Cut, ...], make: Any) -> None:
        for cut in cuts:
            for stream in cut.streams:
                self.context.links.add_toxic(cut.link, toxic_name(self, stream), make(stream))

    def toxic_healings(self, cuts: tuple[Cut, ...]) -> tuple[Healing, ...]:
        return tuple(
            Healing(action="remove_toxic", args={"link": cut.link, "toxic": toxic_name(self, stream)})
            for cut in cuts
            for stream in cut.streams
        )


def toxic_name(fault: Fault[Any], stream: Stream) -> str:
    """Unique per fault instance, so that overlapping faults do not heal each other."""
    return f"{fault.id}-{stream}"


def connections(context: Context, link_name: str) -> dict[str, int]:
    """How many connections the link's client holds to the proxy, and straight to the server."""
    ends = context.runtime.link(link_name)
    client = context.spec.links[link_name].client
    if client not in context.spec.services:
        return {"proxy": 1, "bypass": 0}  # the load itself: the driver is handed the proxy's address
    held = context.runtime.connections(client)
    return {"proxy": held.count(ends.listen), "bypass": held.count(ends.upstream)}


def figures(canary: Canary) -> dict[str, Any]:
    return {
        "connected": canary.connected,
        "replied": canary.replied,
        "rtt_ms": canary.rtt_ms,
        "error": canary.error,
    }


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
            raise ValueError("mode reject closes the connection, so it has no direction; use mode drop for one way")
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
        return self.toxic_healings(self._cut)

    def inject(self) -> None:
        self.note_before(self._cut)
        if self.params.mode == "reject":
            for cut in self._cut:
                self.context.links.set_enabled(cut.link, False)
        else:
            self.add(self._cut, lambda stream: Timeout(stream=stream, timeout=0))

    def observe(self) -> None:
        self.seen["during"] = {}
        for cut in self._cut:
            canary = self.canary(cut.link)
            self.seen["during"][cut.link] = {
                **figures(canary),
                "refused": canary.refused,
            }
        self.note_neighbours()

    def proof(self) -> Proof:
        during: dict[str, dict[str, Any]] = self.seen.get("during", {})
        bad = {}
        for cut in self._cut:
            row = during.get(cut.link)
            if row is None:
                bad[cut.link] = "was not looked at while the fault lasted"
            elif row["replied"]:
                bad[cut.link] = f"a canary was answered in {row['rtt_ms']} ms"
            elif self.params.mode == "reject" and not row["refused"]:
                bad[cut.link] = "a canary was not refused"
            elif self.params.mode == "drop" and row["refused"]:
                bad[cut.link] = "a canary was refused, so the connection was not left open"
        if not any(row["replied"] for row in self.seen.get("before", {}).values()):
            bad["before"] = "no canary was answered before the fault either"
        effect = {"reject": "connections were refused", "drop": "nothing was answered"}[self.params.mode]
        return self.judge(bad, effect)


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
        return self.toxic_healings(self._cut)

    def inject(self) -> None:
        self.note_before(self._cut)
        toxic = {"latency": round(self.params.latency * 1000), "jitter": round(self.params.vary * 1000)}
        self.add(self._cut, lambda stream: LatencyToxic(stream=stream, **toxic))

    def canary(self, link: str) -> Canary:
        spec = self.context.spec.links[link]
        longest = 2 * 2 * (self.params.latency + self.params.vary) + CANARY_TIMEOUT_S
        return probe(str(self.context.runtime.link(link).listen), spec.protocol, longest)

    def observe(self) -> None:
        self.seen["during"] = {}
        for cut in self._cut:
            if self.seconds_left() < self.params.latency + 0.2:
                break
            self.seen["during"][cut.link] = figures(self.canary(cut.link))

    def proof(self) -> Proof:
        least_ms = 0.8 * (self.params.latency - self.params.vary) * 1000
        bad: dict[str, str] = {}
        proved = 0
        for link, row in self.seen.get("during", {}).items():
            before = self.seen["before"][link]
            if not before["replied"]:
                continue  # nobody answered there before either: it says nothing
            added = (row["rtt_ms"] - before["rtt_ms"]) if row["replied"] else None
            if added is None:
                bad[link] = f"a canary was not answered at all: {row['error']}"
            elif added < least_ms:
                bad[link] = f"a canary took only {added:.0f} ms longer than before"
            else:
                proved += 1
        if not proved and not bad:
            bad["links"] = "no canary was answered on any of them before the fault"
        return self.judge(bad, f"canaries took at least {least_ms:.0f} ms longer")


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
        return tuple(Cut(name, ("downstream",)) for name in matching_links(self.params.links, self.context.spec))

    def healings(self) -> tuple[Healing, ...]:
        self._cut = self.cuts()
        bounced = tuple(Healing(action="enable_link", args={"link": cut.link}) for cut in self._cut)
        return (*bounced, *self.toxic_healings(self._cut))

    def inject(self) -> None:
        self.note_before(self._cut)
        toxic: Toxic = ResetPeer(stream="downstream", timeout=round(self.params.after * 1000))
        self.add(self._cut, lambda _stream: toxic)
        for cut in self._cut:
            self.context.links.set_enabled(cut.link, False)
            self.context.links.set_enabled(cut.link, True)

    def observe(self) -> None:
        self.seen["during"] = {}
        for cut in self._cut:
            canary = self.canary(cut.link)
            self.seen["during"][cut.link] = {**figures(canary), "reset": canary.reset}
        self.note_neighbours()

    def proof(self) -> Proof:
        during: dict[str, dict[str, Any]] = self.seen.get("during", {})
        bad = {link: "a canary was not reset" for link, row in during.items() if not row["reset"]}
        if not during:
            bad["links"] = "not looked at while the fault lasted"
        return self.judge(bad, "connections were reset")
