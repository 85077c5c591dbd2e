"""Opening one PostgreSQL connection to the right host of several.

asyncpg's own multi-host connect tries hosts in order, waits on a silent one for the whole timeout, and
gives up at the first host that accepts and then closes, which is how a dead server behind a proxy looks.
So all hosts are tried at once here, each with its own deadline, and the first of the wanted role wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

Connection: TypeAlias = asyncpg.Connection
Wanted = Literal["read-write", "prefer-standby", "any"]

CONNECT_FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


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


async def connect(url: DatabaseUrl, *, timeout_s: float, settings: dict[str, str]) -> Connection:
    """A connection to the first host found in the wanted role; OSError when there is none."""
    attempts = [asyncio.create_task(_connect_one(url, host, timeout_s, settings)) for host in url.hosts]
    spare: Connection | None = None
    chosen: Connection | None = None
    failures: list[str] = []
    try:
        for ready in asyncio.as_completed(attempts):
            try:
                connection = await ready
            except CONNECT_FAILURES as error:
                failures.append(f"{type(error).__name__}: {error}")
                continue
            if suits(connection, url.wanted):
                chosen = connection
                return connection
            failures.append("a host in another role")
            spare = spare or connection
        if url.wanted == "prefer-standby" and spare is not None:
            chosen = spare
            return spare
    finally:
        _discard(attempts, chosen)
    raise ConnectionError(f"no {url.wanted} host among {len(url.hosts)}: " + "; ".join(failures))


def suits(connection: Connection, wanted: Wanted) -> bool:
    """The server tells its role when a session starts, so this costs no round trip."""
    settings = connection.get_settings()
    standby = getattr(settings, "in_hot_standby", "off") == "on"
    read_only = standby or getattr(settings, "default_transaction_read_only", "off") == "on"
    return {"read-write": not read_only, "prefer-standby": standby, "any": True}[wanted]


async def _connect_one(
    url: DatabaseUrl, host: tuple[str, int], timeout_s: float, settings: dict[str, str]
) -> Connection:
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


def _discard(attempts: Sequence[asyncio.Task[Connection]], chosen: Connection | None) -> None:
    """Cancel what still connects and close what was not chosen, without waiting for either."""

    def close(attempt: asyncio.Task[Connection]) -> None:
        with contextlib.suppress(asyncio.CancelledError, *CONNECT_FAILURES):
            if attempt.result() is not chosen:
                attempt.result().terminate()

    for attempt in attempts:
        attempt.cancel()
        attempt.add_done_callback(close)
