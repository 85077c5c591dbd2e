"""The network: partition, latency, reset; on the links of the target, through Toxiproxy.

What all of them must prove, and how, stands in ``link_fault.py``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from harness.evidence.healing import Healing
from harness.experiment.target import Frozen, TargetSpec
from harness.experiment.units import Seconds
from harness.experiment.vocabulary import HEALING_S, Ability, Lives, Names
from harness.fault.base import Context, Fault
from harness.fault.link_fault import AFTER_S, BEFORE_S, CANARY_TIMEOUT_S, Effect, LinkFault
from harness.fault.selection import (
    Cut,
    Direction,
    Stream,
    expand_services,
    links_between,
    matching_links,
    service_of,
)
from harness.fault.unplug import Unplug, UnplugParams
from harness.toxiproxy import proofs
from harness.toxiproxy.links import LinkState
from harness.toxiproxy.toxics import Latency as LatencyToxic
from harness.toxiproxy.toxics import ResetPeer, Timeout

EVERYTHING_ELSE = ("*",)
SLACK_S = 0.5  # that a canary may be late on a busy machine
NEARLY = 0.8  # of the latency asked for is near enough: other traffic blurs it


class PartitionParams(Frozen):
    """``between``: two sets of services, roles or patterns; see the fault catalogue for the modes."""

    between: tuple[Names, Names]
    mode: Literal["drop", "reject", "disconnect"] = "drop"
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

    @model_validator(mode="after")
    def _disconnect_is_from_all(self) -> PartitionParams:
        if self.mode != "disconnect":
            return self
        if self.direction != "both":
            raise ValueError(
                "mode disconnect takes a service off its networks, so it has no direction; "
                "use mode drop for one way"
            )
        if EVERYTHING_ELSE not in self.between:
            raise ValueError(
                "mode disconnect takes a service off its networks, so it has no neighbours at all: one side "
                'must be "*", such as between: [payments, "*"]; to cut single edges use mode drop or reject'
            )
        if self.between == (EVERYTHING_ELSE, EVERYTHING_ELSE):
            raise ValueError(
                'mode disconnect: one side must name what is unplugged, such as between: [payments, "*"]'
            )
        return self

    @property
    def unplugged(self) -> UnplugParams | None:
        """With mode disconnect: what is taken off its networks."""
        if self.mode != "disconnect":
            return None
        first, second = self.between
        return UnplugParams(services=first if second == EVERYTHING_ELSE else second)


class Partition(LinkFault[PartitionParams]):
    """Cuts every link between two sets of services.

    ``drop``: connections stay open and nothing arrives (on one stream with ``direction`` to or
    from); healing closes them. ``reject``: open connections end and new ones are refused.
    ``disconnect`` cuts no links: it pulls a service's plug, which ``Unplug`` does.
    """

    name = "partition"
    on_links = "cut"
    Params = PartitionParams

    @classmethod
    def make(cls, id: str, params: PartitionParams, context: Context) -> Fault[Any]:
        if params.unplugged:
            return Unplug(id, params.unplugged, context)
        return cls(id, params, context)

    @classmethod
    def lives(cls, params: PartitionParams) -> Lives | None:
        return Unplug.lives(params.unplugged) if params.unplugged else None

    @classmethod
    def needs(cls, params: PartitionParams) -> frozenset[Ability]:
        return Unplug.needs(params.unplugged) if params.unplugged else frozenset()

    @classmethod
    def touches(cls, params: PartitionParams, spec: TargetSpec) -> tuple[str, ...]:
        if params.unplugged:
            return Unplug.touches(params.unplugged, spec)
        return tuple(cut.link for cut in cls._cuts(params, spec, lambda name: spec.roles[name].members))

    @classmethod
    def proof_needed(cls, params: PartitionParams) -> str:
        if params.unplugged:
            return Unplug.proof_needed(params.unplugged)
        what = "is refused" if params.mode == "reject" else "gets no reply"
        effect = f"a canary through each cut link {what}"
        return f"{effect}, the links beside them flow, and the clients use the proxies"

    @classmethod
    def shortest_s(cls, params: PartitionParams) -> float:
        if params.unplugged:
            return Unplug.shortest_s(params.unplugged)
        return BEFORE_S + CANARY_TIMEOUT_S + AFTER_S  # a canary must be seen to wait in vain

    @staticmethod
    def _cuts(params: PartitionParams, spec: TargetSpec, holders: Any) -> tuple[Cut, ...]:
        def resolve(name: str) -> tuple[str, ...]:
            return holders(name) if name in spec.roles else (name,)

        first, second = (expand_services(side, spec) for side in params.between)
        return links_between(first, second, params.direction, spec, resolve)

    def cuts(self) -> tuple[Cut, ...]:
        return self._cuts(self.params, self.context.spec, lambda role: (service_of(role, self.context),))

    def healings(self) -> tuple[Healing, ...]:
        self.claim()
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
            refused = proofs.reject(links, cut.link, listen, timeout_s=self.patience_s())
            return Effect(refused.proved, "refused" if refused.proved else "a canary was not refused")
        way = way_of(cut)
        patience_s = self.patience_s()
        seen = proofs.drop(
            links,
            cut.link,
            listen,
            self.protocol(cut.link),
            way,
            timeout_s=patience_s,
            tries=min(3, max(1, int(self.seconds_left() / (patience_s + AFTER_S)))),
            give_up=self.context.stopping,
        )
        fate = seen.seen
        text = (
            f"a canary was answered in {fate.canary.rtt_ms:.0f} ms"
            if fate.canary.rtt_ms is not None
            else f"request vanished: {fate.request_vanished}, reply vanished: {fate.reply_vanished}"
        )
        return Effect(seen.proved, text)

    def in_place(self, cut: Cut, state: LinkState) -> bool:
        if self.params.mode == "reject":
            return not state.enabled
        return self.has_toxics(cut, state)

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
        if self.vary > self.latency / 2:
            raise ValueError(
                f"vary {self.vary:g} s is more than half of latency {self.latency:g} s: "
                "a delay that may be next to nothing cannot be proved"
            )
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

    @classmethod
    def shortest_s(cls, params: LatencyParams) -> float:
        slowest_s = len(streams_of(params.stream)) * (params.latency + params.vary)
        return BEFORE_S + slowest_s + CANARY_TIMEOUT_S + AFTER_S

    def cuts(self) -> tuple[Cut, ...]:
        names = matching_links(self.params.links, self.context.spec)
        return tuple(Cut(name, streams_of(self.params.stream)) for name in names)

    def healings(self) -> tuple[Healing, ...]:
        self.claim()
        return self.toxic_healings()

    def inject(self) -> None:
        self.note_before()
        latency_ms, vary_ms = round(self.params.latency * 1000), round(self.params.vary * 1000)
        self.add(lambda stream: LatencyToxic(stream=stream, latency=latency_ms, jitter=vary_ms))

    def look(self, cut: Cut) -> Effect:
        ways = len(cut.streams)
        slowest_s = ways * (self.params.latency + self.params.vary)
        slower = proofs.latency(
            self.listen(cut.link),
            self.protocol(cut.link),
            at_least_ms=NEARLY * ways * (self.params.latency - self.params.vary) * 1000,
            at_most_ms=(slowest_s + SLACK_S) * 1000,
            before_ms=self.seen["before_ms"][cut.link],
            direct=self.upstream(cut.link),
            timeout_s=self.patience_s(slowest_s + CANARY_TIMEOUT_S),
            give_up=self.context.stopping,
        )
        if slower.added_ms is None:
            return Effect(slower.proved, f"{slower.unanswered} canaries were not answered")
        return Effect(slower.proved, f"{slower.added_ms:.0f} ms slower than without it")

    def in_place(self, cut: Cut, state: LinkState) -> bool:
        return self.has_toxics(cut, state)

    def effect(self) -> str:
        added = [row["text"] for row in self.seen["during"].values()]
        return f"canaries were {', '.join(added)}"


class ResetParams(Frozen):
    """``after``: how long a connection lives before it is reset."""

    links: Names
    after: Seconds = 0.0

    @field_validator("after")
    @classmethod
    def _soon(cls, value: float) -> float:
        if value > 60:
            raise ValueError(f"after {value:g} s is out of range: at most 60s")
        return value


class Reset(LinkFault[ResetParams]):
    """Connections are reset (TCP RST). Pooled ones too: the proxy is bounced so that all are new."""

    name = "reset"
    on_links = "cut"
    Params = ResetParams

    @classmethod
    def touches(cls, params: ResetParams, spec: TargetSpec) -> tuple[str, ...]:
        return matching_links(params.links, spec)

    @classmethod
    def proof_needed(cls, params: ResetParams) -> str:
        return "a canary through each link is reset, and the links beside them flow"

    @classmethod
    def shortest_s(cls, params: ResetParams) -> float:
        return BEFORE_S + params.after + CANARY_TIMEOUT_S + AFTER_S

    @classmethod
    def longest_s(cls, params: ResetParams, for_s: float | None = None) -> float:
        return params.after + HEALING_S  # the toxic goes only once the resets under way have happened

    def cuts(self) -> tuple[Cut, ...]:
        names = matching_links(self.params.links, self.context.spec)
        return tuple(Cut(name, ("downstream",)) for name in names)

    def healings(self) -> tuple[Healing, ...]:
        self.claim()
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
            timeout_s=self.patience_s(self.params.after + CANARY_TIMEOUT_S),
            direct=self.upstream(cut.link),
            give_up=self.context.stopping,
        )
        return Effect(seen.proved, "reset" if seen.proved else f"a canary was not reset: {seen.canary.error}")

    def in_place(self, cut: Cut, state: LinkState) -> bool:
        return state.enabled and self.has_toxics(cut, state)

    def effect(self) -> str:
        return "connections were reset"
