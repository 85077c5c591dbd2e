"""Which links and services a fault means: patterns, roles, the edges between two sets of services."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from harness.errors import EnvironmentBroken
from harness.experiment.target import Link, TargetSpec
from harness.fault.base import Context, known

Direction = Literal["both", "to", "from"]
Stream = Literal["upstream", "downstream"]


@dataclass(frozen=True)
class Cut:
    """One link and which of its streams are meant (``upstream``: from client to server)."""

    link: str
    streams: tuple[Stream, ...]


def matching_links(patterns: Sequence[str], spec: TargetSpec) -> tuple[str, ...]:
    """Names of the links that match any of the patterns, in the target's order.

    Raises ValueError for a pattern that matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in spec.links):
            known(pattern, "link", spec.links)
    return tuple(name for name in spec.links if any(fnmatchcase(name, pattern) for pattern in patterns))


def expand_services(names: Iterable[str], spec: TargetSpec) -> tuple[str, ...]:
    """Service names and patterns -> services; roles are kept as they are; ``client`` is the load."""
    every = ["client", *spec.services]
    out: list[str] = []
    for name in names:
        hits = [service for service in every if fnmatchcase(service, name)]
        if not hits:
            known(name, "service or role", [*every, *spec.roles])
            hits = [name]
        out += [hit for hit in hits if hit not in out]
    return tuple(out)


def refuse_witnesses(names: Iterable[str], spec: TargetSpec) -> None:
    """Raises ValueError for a service that stands outside the system: only links to it are faulted."""
    for name in names:
        if name in spec.services and spec.services[name].witness:
            raise ValueError(f"{name!r} is a witness: it stands outside; fault a link to it instead")


def service_of(name: str, context: Context) -> str:
    """The service meant, now. A role nobody holds is an error, not a guess."""
    if name not in context.spec.roles:
        return name
    holder = context.runtime.role(name)
    if holder is None:
        raise EnvironmentBroken(f"nobody holds the role {name!r} now, so it cannot be faulted")
    return holder


def holders_of(name: str, spec: TargetSpec) -> tuple[str, ...]:
    """The service, or whoever may hold the role."""
    return spec.roles[name].members if name in spec.roles else (name,)


def links_of(services: Collection[str], spec: TargetSpec) -> tuple[str, ...]:
    """Every link that one of these services is an end of, in the target's order."""
    return tuple(
        link.name for link in spec.links.values() if link.client in services or link.server in services
    )


def links_between(
    first: Sequence[str],
    second: Sequence[str],
    direction: Direction,
    spec: TargetSpec,
    resolve: Callable[[str], tuple[str, ...]],
) -> tuple[Cut, ...]:
    """The edges between two sets, either way round, and the streams that ``direction`` means.

    ``to``: what the first set sends to the second vanishes; ``from``: what the second sends back.
    ``resolve`` turns a role into its possible holders (all members when planning, the one holder
    when injecting).
    """
    a = {service for name in first for service in resolve(name)}
    b = {service for name in second for service in resolve(name)}
    cuts = []
    for link in spec.links.values():
        if link.client in a and link.server in b:
            cuts.append(Cut(link.name, _streams(direction, forward=True)))
        elif link.client in b and link.server in a:
            cuts.append(Cut(link.name, _streams(direction, forward=False)))
    if not cuts:
        raise ValueError(
            f"no link joins {', '.join(first)} and {', '.join(second)}: there is nothing to cut; "
            f"links of the target: {', '.join(spec.links)}"
        )
    return tuple(cuts)


def _streams(direction: Direction, *, forward: bool) -> tuple[Stream, ...]:
    if direction == "both":
        return ("upstream", "downstream")
    return ("upstream",) if (direction == "to") == forward else ("downstream",)


def neighbours(cut: Iterable[str], spec: TargetSpec) -> tuple[Link, ...]:
    """Links that share a client or a server with the cut ones and must go on flowing."""
    names = set(cut)
    clients = {spec.links[name].client for name in names}
    servers = {spec.links[name].server for name in names}
    return tuple(
        link
        for link in spec.links.values()
        if link.name not in names and (link.client in clients or link.server in servers)
    )
