"""A link: a listening socket, its upstream, its toxics and its live connections."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from harness.toxiproxy.builtin.lane import Lane, Side
from harness.toxiproxy.builtin.specs import ApiError, Direction, ToxicSpec, read_toxic, updated

log = logging.getLogger("toxiproxy")

DIRECTIONS: tuple[Direction, ...] = ("upstream", "downstream")
BACKLOG = 1024
EXIT_OUT_OF_FILES = 71

# (proxy, direction, "received" or "sent", bytes)
CountFor = Callable[["Proxy", Direction, str, int], None]


class Connection:
    """One client's connection and the one that was dialled for it."""

    def __init__(self, proxy: Proxy, loop: asyncio.AbstractEventLoop) -> None:
        self.proxy = proxy
        self.loop = loop
        self.aborted = False
        self.up = Lane("upstream", loop, proxy.count)
        self.down = Lane("downstream", loop, proxy.count)
        self.client = ClientSide(self)
        self.server = Side(self.down, self.up, self.side_lost)

    async def dial(self) -> None:
        """The client was accepted already."""
        host, port = split_address(self.proxy.upstream)
        try:
            await self.loop.create_connection(lambda: self.server, host, port)
        except OSError as error:
            self.proxy.dial_failed(error)
            self.server.lost = True
            self.abort()
            return
        if self.aborted:
            self.abort()
            return
        self._start()

    def _start(self) -> None:
        if any(spec.type == "reset_peer" for chain in self.proxy.toxics.values() for spec in chain):
            self.client.reset_on_close()
            self.server.reset_on_close()
        for lane in (self.up, self.down):
            lane.open(self.proxy.toxics[lane.direction])

    def abort(self) -> None:
        """Close both sockets now, whatever is still to be written."""
        self.aborted = True
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()

    def side_lost(self) -> None:
        if self.client.lost and self.server.lost:
            self.up.give_up()
            self.down.give_up()
            self.proxy.connections.discard(self)


class ClientSide(Side):
    """The accepted socket. What it sends before the upstream is there waits at its lane's gate."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.up, connection.down, connection.side_lost)
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = self._connection
        connection.proxy.connections.add(connection)
        connection.proxy.keep(connection.loop.create_task(connection.dial()))


class Proxy:
    """``toxics`` are in the order in which they work, by direction."""

    def __init__(self, name: str, listen: str, upstream: str, count: CountFor) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.enabled = False
        self.toxics: dict[Direction, list[ToxicSpec]] = {"upstream": [], "downstream": []}
        self.connections: set[Connection] = set()
        self._count_for = count
        self._server: asyncio.Server | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self._complained_at = 0.0

    def show(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": [spec.show() for direction in DIRECTIONS for spec in self.toxics[direction]],
        }

    # --- listening --------------------------------------------------------------------------------
    async def start(self) -> None:
        """Listen. Raises ApiError 500 when the address cannot be had."""
        host, port = split_address(self.listen)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self, loop).client, host or None, port, backlog=BACKLOG
            )
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else str(error)
            raise ApiError(500, f"listen tcp {self.listen}: bind: {why}") from error
        self.listen = show_address(self._server.sockets[0].getsockname())
        self.enabled = True
        log.info("link %s listens on %s for %s", self.name, self.listen, self.upstream)

    def stop(self) -> None:
        """Refuse new connections and close the open ones, at once."""
        if self._server is None:
            return
        self.enabled = False
        self._server.close()
        self._server = None
        for connection in tuple(self.connections):
            connection.abort()
        log.info("link %s stopped", self.name)

    async def update(self, listen: str, upstream: str, enabled: bool) -> None:
        if listen != self.listen or upstream != self.upstream:
            self.stop()
            self.listen, self.upstream = listen, upstream
        if enabled and not self.enabled:
            await self.start()
        elif not enabled:
            self.stop()

    # --- toxics -----------------------------------------------------------------------------------
    def find_toxic(self, name: str) -> ToxicSpec:
        for chain in self.toxics.values():
            for spec in chain:
                if spec.name == name:
                    return spec
        raise ApiError(404, "toxic not found")

    def add_toxic(self, body: dict[str, Any]) -> ToxicSpec:
        spec = read_toxic(body)
        if any(spec.name == other.name for chain in self.toxics.values() for other in chain):
            raise ApiError(409, "toxic already exists")
        self.toxics[spec.direction].append(spec)
        for lane in self._lanes(spec.direction):
            lane.add(spec)
        return spec

    def update_toxic(self, name: str, body: dict[str, Any]) -> ToxicSpec:
        old = self.find_toxic(name)
        new = updated(old, body)
        chain = self.toxics[old.direction]
        chain[chain.index(old)] = new
        for lane in self._lanes(new.direction):
            lane.change(new)
        return new

    def remove_toxic(self, name: str) -> None:
        spec = self.find_toxic(name)
        self.toxics[spec.direction].remove(spec)
        for lane in self._lanes(spec.direction):
            lane.remove(name)

    def _lanes(self, direction: Direction) -> list[Lane]:
        """Of the connections that are dialled: the others will start with the toxics of then."""
        return [
            connection.up if direction == "upstream" else connection.down
            for connection in self.connections
            if connection.server.transport is not None
        ]

    # --- for its connections --------------------------------------------------------------------
    def count(self, direction: Direction, what: str, number: int) -> None:
        self._count_for(self, direction, what, number)

    def keep(self, task: asyncio.Task[None]) -> None:
        """The event loop itself holds its tasks only weakly."""
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    def dial_failed(self, error: OSError) -> None:
        """At most one line a second: a dead upstream fails hundreds of times.

        An engine that is out of files is dead: what it cuts from then on, nobody asked it to.
        """
        if error.errno in (errno.EMFILE, errno.ENFILE):
            log.critical("link %s cannot reach %s: %s; this engine ends", self.name, self.upstream, error)
            os._exit(EXIT_OUT_OF_FILES)
        if time.monotonic() - self._complained_at > 1:
            self._complained_at = time.monotonic()
            log.warning("link %s cannot reach %s: %s", self.name, self.upstream, error)


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``. Raises ApiError 500 as the real server does."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ApiError(500, f"listen tcp: address {text}: missing or invalid port in address")
    return host.strip("[]"), int(port)


def show_address(name: tuple[Any, ...]) -> str:
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
