"""Opening a PostgreSQL connection to one host of several, and whether it is in the wanted role.

asyncpg's own multi-host connect tries hosts in order, waits on a silent one for the whole timeout, and
gives up at the first host that accepts and then closes, which is how a dead server behind a proxy looks.
So it is given one host at a time.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

Connection: TypeAlias = asyncpg.Connection
Wanted = Literal["read-write", "prefer-standby", "any"]


@dataclass(frozen=True)
class DatabaseUrl:
    """``postgresql://user[:password]@host:port,host:port/name?target_session_attrs=...``"""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str | None
    name: str
    wanted: Wanted

    @classmethod
    def parse(cls, url: str) -> DatabaseUrl:
        parts = urlsplit(url)
        credentials, _, places = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        wanted = parse_qs(parts.query).get("target_session_attrs", ["any"])[0]
        if wanted not in ("read-write", "prefer-standby", "any") or not places:
            raise SystemExit(f"not a database URL with known target_session_attrs: {url!r}")
        hosts = []
        for place in places.split(","):
            host, colon, port = place.rpartition(":")
            hosts.append((host, int(port)) if colon else (place, 5432))
        return cls(
            tuple(hosts),
            unquote(user) or "postgres",
            unquote(password) or None,
            parts.path.strip("/") or "billing",
            wanted,  # type: ignore[arg-type]
        )


async def connect(
    url: DatabaseUrl, host: tuple[str, int], *, timeout_s: float, settings: dict[str, str]
) -> Connection:
    """A connection to the host, in whatever role it is. Raises what asyncpg does, and OSError."""
    connection = await asyncpg.connect(
        host=host[0],
        port=host[1],
        user=url.user,
        password=url.password,
        database=url.name,
        ssl=False,
        timeout=timeout_s,
        server_settings=settings,
    )
    _notice_dead_peers(connection)
    return connection


def suits(connection: Connection, wanted: Wanted) -> bool:
    """Whether the host is in the wanted role. It tells its role at a session's start: no round trip."""
    settings = connection.get_settings()
    standby = getattr(settings, "in_hot_standby", "off") == "on"
    read_only = standby or getattr(settings, "default_transaction_read_only", "off") == "on"
    return {"read-write": not read_only, "prefer-standby": standby, "any": True}[wanted]


def _notice_dead_peers(connection: Connection) -> None:
    """Let the kernel give up a peer that acknowledges nothing for 4 s, or answers no probe for 5 s."""
    peer = connection._transport.get_extra_info("socket")
    if peer is None or peer.family == socket.AF_UNIX:
        return
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 2),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 4000),
    ):
        if hasattr(socket, option):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
