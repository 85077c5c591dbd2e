"""Small subnets for a run's networks, clear of everything that this machine already reaches.

The engine's own pools end after some thirty networks. These come from 198.18.0.0/15, set apart for test
networks (RFC 2544), so that no office network or VPN is in the way; ``LEDGERQUAKE_SUBNETS`` names another
range.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from pathlib import Path

from harness.errors import EnvironmentBroken, InputError
from harness.target.docker.endpoint import Docker, asking

POOL_VARIABLE = "LEDGERQUAKE_SUBNETS"
POOL = "198.18.0.0/15"
PREFIX = 28
WIDEST = 8  # a default route, or the halves of one that a VPN puts there
_ROUTES = Path("/proc/net/route")


def pool() -> IPv4Network:
    """The range to take subnets from. Raises InputError."""
    written = os.environ.get(POOL_VARIABLE, POOL)
    try:
        found = IPv4Network(written)
    except (AddressValueError, NetmaskValueError, ValueError) as problem:
        raise InputError(
            f"{POOL_VARIABLE}={written!r} is no IPv4 range: {problem}", hint=f"such as {POOL}"
        ) from None
    if found.prefixlen > PREFIX - 6:
        raise InputError(f"{POOL_VARIABLE}={written} is too small", hint=f"a /{PREFIX - 6} or larger")
    return found


def candidates(run_id: str, taken: Iterable[IPv4Network]) -> Iterator[IPv4Network]:
    """Free subnets, from a place of the run's own in the pool on. Raises EnvironmentBroken at its end."""
    in_use = list(taken)
    subnets = list(pool().subnets(new_prefix=PREFIX))
    start = random.Random(run_id).randrange(len(subnets))
    for subnet in subnets[start:] + subnets[:start]:
        if not any(subnet.overlaps(other) for other in in_use):
            yield subnet
    raise EnvironmentBroken(
        f"no free subnet is left in {pool()}",
        hint=f"`ledgerquake cleanup` removes what dead runs left; {POOL_VARIABLE} names another range",
    )


def taken(docker: Docker) -> list[IPv4Network]:
    """Subnets of the engine's networks, and routes of this machine; not those that stand for everywhere."""
    with asking("list the engine's networks"):
        networks = docker.api.networks()
    found = [
        _network(str(pool_["Subnet"]))
        for network in networks
        for pool_ in (network.get("IPAM") or {}).get("Config") or ()
        if "Subnet" in pool_
    ]
    return [one for one in [*found, *_routes()] if one is not None]


def _network(text: str) -> IPv4Network | None:
    """None for IPv6."""
    try:
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        return None


def _routes() -> Iterator[IPv4Network]:
    for line in _ROUTES.read_text().splitlines()[1:]:
        words = line.split()
        address, mask = (socket.ntohl(int(words[i], 16)) for i in (1, 7))
        length = bin(mask).count("1")
        if length >= WIDEST:
            yield IPv4Network((address, length), strict=False)
