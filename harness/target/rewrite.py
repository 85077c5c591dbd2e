"""From the plain names of a Compose file to the addresses of this deployment. Pure text, no I/O.

The rules stand in the docstring of ``harness.experiment.target.Service``. A ``name:port`` of a known
service that is no declared link is an error: it would be a way around the proxies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.errors import TargetError
from harness.experiment.target import Link, Service, TargetSpec

# Not within a longer name, and not ``user:password@``.
_NAME_AND_PORT = re.compile(r"(?<![\w.-])([A-Za-z0-9][\w.-]*):(\d{1,5})(?![\d@])")

OWN_HOST = "0.0.0.0"  # where the service shall listen itself

AddressOf = Callable[[str, int], str]  # (service, port) -> where it listens itself
LinkAddress = Callable[[str], str]  # link name -> where its proxy listens


def link_between(spec: TargetSpec, client: str, server: str, port: int) -> Link | None:
    """The declared link for that edge and port."""
    for link in spec.links.values():
        if (link.client, link.server, link.port) == (client, server, port):
            return link
    return None


def rewrite_environment(
    spec: TargetSpec,
    service: Service,
    *,
    own: AddressOf,
    proxy: LinkAddress,
    volumes: Mapping[str, Path],
    nowhere: str | None = None,
) -> dict[str, str]:
    """The service's environment for this deployment. Raises TargetError for an undeclared address.

    ``nowhere``: where such an address leads instead, for an environment that is wrong on purpose.
    """
    rewritten = {}
    for key, value in service.environment.items():
        text = _rewrite_addresses(spec, service, key, value, own, proxy, nowhere)
        rewritten[key] = _rewrite_paths(service, text, volumes)
    return rewritten


def wrong_addresses(spec: TargetSpec, service: Service) -> Iterator[tuple[str, TargetError]]:
    """Each variable of the service that could not be rewritten, and why: tried with made-up addresses."""

    def own(name: str, port: int) -> str:
        if port not in service.ports:
            exposed = ", ".join(map(str, service.ports)) or "none"
            raise TargetError(f"{name} does not expose port {port}", hint=f"exposed: {exposed}")
        return ""

    folders = dict.fromkeys(service.volumes, Path("/"))
    for key, value in service.environment.items():
        alone = service.model_copy(update={"environment": {key: value}})
        try:
            rewrite_environment(spec, alone, own=own, proxy=lambda _: "", volumes=folders)
        except TargetError as problem:
            yield key, problem


def addresses(value: str) -> Iterator[tuple[str, int]]:
    """Whatever looks like a name and a port in a value."""
    for match in _NAME_AND_PORT.finditer(value):
        yield match[1], int(match[2])


def _rewrite_addresses(
    spec: TargetSpec,
    service: Service,
    key: str,
    value: str,
    own: AddressOf,
    proxy: LinkAddress,
    nowhere: str | None,
) -> str:
    def one(match: re.Match[str]) -> str:
        name, port = match[1], int(match[2])
        if name == OWN_HOST:
            return own(service.name, port)
        if name not in spec.services:
            return match[0]
        try:
            return proxy(_declared(spec, service, name, port, key).name)
        except TargetError:
            if nowhere is None:
                raise
            return nowhere

    return _NAME_AND_PORT.sub(one, value)


def _declared(spec: TargetSpec, service: Service, name: str, port: int, key: str) -> Link:
    """The link that an address means. Raises TargetError when there is none."""
    link = link_between(spec, *_edge(spec, service, name, port, key), port)
    if link is None:
        raise TargetError(
            f"service {service.name!r}, environment {key}: {name}:{port} is no declared link",
            hint=f"declare the link {service.name}->{name} with port {port} under x-ledgerquake.links; "
            "without it the connection would go past the proxies",
        )
    return link


def _edge(spec: TargetSpec, service: Service, name: str, port: int, key: str) -> tuple[str, str]:
    """Client and server of the edge meant: its own name is how a named peer reaches it."""
    if name != service.name:
        return service.name, name
    peer = service.advertise.get(port)
    if peer is None:
        raise TargetError(
            f"service {service.name!r}, environment {key}: {name}:{port} is its own name, "
            "and nothing says who uses it",
            hint=f"say in x-ledgerquake of the service: advertise: {{{port}: <the service that connects>}}",
        )
    return peer, name


def _rewrite_paths(service: Service, text: str, volumes: Mapping[str, Path]) -> str:
    """Mount points, longest first, where a path begins: at the start or after a separator."""
    for volume, mount in sorted(service.volumes.items(), key=lambda item: -len(item[1])):
        pattern = rf"(?<![\w./-]){re.escape(mount.rstrip('/'))}(?=/|$|[\s:;,?\"'])"
        text = re.sub(pattern, str(volumes[volume]).replace("\\", r"\\"), text)
    return text
