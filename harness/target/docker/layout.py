"""Which networks a target needs, and who stands in them under which names. Pure: no engine, no addresses.

Each service is alone with the proxies of its dependencies: the proxy container joins the service's network
under the *names of the servers*, so that the service finds them there and nowhere else. A name is one
address in a network; two servers on one port therefore need two networks (``slot`` 0, 1, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from harness.experiment.target import TargetSpec

PROXY, SERVICE = 2, 3  # host numbers; 1 is the bridge's own
LINK_ENGINE = "toxiproxy"  # the name of what all proxies run in; no service may have it
LINK_ENGINE_PORT = 8474  # where it listens itself, in the network from which load enters


@dataclass(frozen=True)
class Segment:
    """One network of ``client``; ``servers`` are the names under which the proxy stands in it.

    A client that is no service (where load enters) has networks with nobody but the proxy in them.
    """

    client: str
    slot: int
    servers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Not the name of any other service: those have no dot."""
        return f"{self.client}.{self.slot}" if self.slot else self.client


@dataclass(frozen=True)
class Layout:
    """All segments, and by link name the one in which its proxy listens."""

    segments: tuple[Segment, ...]
    of_link: Mapping[str, Segment]

    def of_client(self, client: str) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments if segment.client == client)


@dataclass
class _Slot:
    servers: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)


def lay_out(spec: TargetSpec) -> Layout:
    """The fewest networks for each client such that no two of its servers share an address and a port."""
    clients = dict.fromkeys([*spec.services, *(link.client for link in spec.links.values())])
    segments: list[Segment] = []
    of_link: dict[str, Segment] = {}
    for client in clients:
        wanted: dict[str, set[int]] = {}
        for link in spec.links.values():
            if link.client == client:
                wanted.setdefault(link.server, set()).add(link.port)
        own = [Segment(client, number, tuple(slot.servers)) for number, slot in enumerate(_slots(wanted))]
        segments += own
        where = {server: segment for segment in own for server in segment.servers}
        of_link.update(
            {name: where[link.server] for name, link in spec.links.items() if link.client == client}
        )
    return Layout(tuple(segments), of_link)


def _slots(wanted: Mapping[str, set[int]]) -> list[_Slot]:
    """At least one, also for a service that depends on nobody."""
    slots = [_Slot()]
    for server, ports in wanted.items():
        free = next((slot for slot in slots if not slot.ports & ports), None)
        if free is None:
            slots.append(free := _Slot())
        free.servers.append(server)
        free.ports |= ports
    return slots


def first_services(spec: TargetSpec) -> frozenset[str]:
    """Services that all others wait for longest: who holds the roles of ``ready_when``, and whatever
    these depend on. Their start is worth hiding the making of the other networks in.
    """
    found: set[str] = set()
    more = {member for role in spec.ready_when for member in spec.roles[role].members}
    while more:
        found |= more
        dialled = {link.server for link in spec.links.values() if link.client in more}
        needed = {name for one in more for name in spec.services[one].depends_on}
        more = (dialled | needed) - found
    return frozenset(found)


def host(subnet: IPv4Network, number: int) -> IPv4Address:
    """The address of the proxy (``PROXY``) or the service (``SERVICE``) in a segment's subnet."""
    return subnet.network_address + number
