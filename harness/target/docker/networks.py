"""A run's networks and every address in them; each is made when it is needed, in a subnet nobody has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from harness.errors import EnvironmentBroken
from harness.experiment.target import TargetSpec
from harness.target.docker.container import Plug
from harness.target.docker.endpoint import Docker, asking
from harness.target.docker.labels import full_name
from harness.target.docker.layout import PROXY, SERVICE, Segment, host, lay_out
from harness.target.docker.subnets import candidates, taken
from harness.target.runtime import Address, LinkEnds


class Networks:
    """All segments of a target, and the networks of those that are made.

    One thread at a time may ``make``; others may look meanwhile.
    """

    def __init__(self, docker: Docker, spec: TargetSpec, run_id: str, labels: Mapping[str, str]) -> None:
        """``labels``: for every network."""
        self._docker = docker
        self._spec = spec
        self._run_id = run_id
        self._labels = dict(labels)
        self._layout = lay_out(spec)
        self._subnets: dict[Segment, IPv4Network] = {}
        self._free: Iterator[IPv4Network] | None = None

    # --- making them ----------------------------------------------------------------------------
    @property
    def segments(self) -> Sequence[Segment]:
        return self._layout.segments

    def of_link(self, link: str) -> Segment:
        """The segment in which that link's proxy listens."""
        return self._layout.of_link[link]

    def make(self, segment: Segment) -> bool:
        """Whether it was not there before. Raises EnvironmentBroken."""
        if segment in self._subnets:
            return False
        if self._free is None:
            self._free = candidates(self._run_id, taken(self._docker))
        self._subnets[segment] = self._make_in(self._free, full_name(self._run_id, segment.name))
        return True

    def _make_in(self, free: Iterator[IPv4Network], name: str) -> IPv4Network:
        """In the first subnet that nobody takes at the same moment."""
        for subnet in free:
            pool = IPAMPool(subnet=str(subnet), gateway=str(host(subnet, 1)))
            try:
                with asking(f"make the network {name}"):
                    self._docker.api.create_network(
                        name,
                        driver="bridge",
                        internal=True,
                        check_duplicate=True,
                        labels=self._labels,
                        ipam=IPAMConfig(pool_configs=[pool]),
                    )
            except EnvironmentBroken as broken:
                cause = broken.__cause__
                if isinstance(cause, APIError) and "overlaps" in str(cause.explanation):
                    continue
                raise
            return subnet
        raise AssertionError("candidates end by raising")

    # --- who stands where in them ---------------------------------------------------------------
    def are_made_for(self, service: str) -> bool:
        """Whether all networks of that service are there."""
        return all(segment in self._subnets for segment in self._layout.of_client(service))

    def plugs(self, service: str) -> list[Plug]:
        """The places of a service whose networks are made."""
        return [self._plug(segment, SERVICE) for segment in self._layout.of_client(service)]

    def proxy_plug(self, segment: Segment) -> Plug:
        """The proxies' place in a network that is made, under the names of the servers."""
        return self._plug(segment, PROXY, segment.servers)

    def proxy_plugs(self) -> list[Plug]:
        """The proxies' places in all networks that there are so far."""
        return [self.proxy_plug(segment) for segment in self._subnets]

    def _plug(self, segment: Segment, number: int, names: tuple[str, ...] = ()) -> Plug:
        address = str(host(self._subnets[segment], number))
        return Plug(full_name(self._run_id, segment.name), address, names)

    def addresses(self) -> dict[tuple[str, int], Address]:
        """By service and port: of every service whose first network is made."""
        return {
            (name, port): Address(str(host(subnet, SERVICE)), port)
            for name, service in self._spec.services.items()
            if (subnet := self._subnets.get(self._layout.of_client(name)[0])) is not None
            for port in service.ports
        }

    def ends(self) -> dict[str, LinkEnds]:
        """By link name: of every link whose two networks are made."""
        addresses = self.addresses()
        found: dict[str, LinkEnds] = {}
        for name, link in self._spec.links.items():
            subnet = self._subnets.get(self._layout.of_link[name])
            upstream = addresses.get((link.server, link.port))
            if subnet is not None and upstream is not None:
                found[name] = LinkEnds(name, Address(str(host(subnet, PROXY)), link.port), upstream)
        return found
