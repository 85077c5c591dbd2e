"""The services' connection pool, against a real PostgreSQL and what may stand in its way."""

from __future__ import annotations

import asyncio
import socket
import time

import asyncpg
import pytest

from billing.common import Unavailable
from tests.integration.billing_core_stack import impatient_database
from tests.integration.billing_processes import Muffler


def server(postgres_url: str) -> str:
    """``host:port``."""
    return postgres_url.split("@")[1].split("/")[0]


def test_a_connection_is_found_past_a_silent_host_and_a_hollow_one(postgres_url: str) -> None:
    """A dead server behind a proxy accepts and closes; a cut one accepts and says nothing."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def ask(silent_port: int) -> float:
        hollow = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        hollow_port = hollow.sockets[0].getsockname()[1]
        database = impatient_database(
            f"127.0.0.1:{silent_port},127.0.0.1:{hollow_port},{server(postgres_url)}"
        )
        began = time.monotonic()
        assert await database.fetchval("select 1") == 1
        database.close()
        hollow.close()
        return time.monotonic() - began

    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asyncio.run(ask(silent.getsockname()[1])) < 0.7


def test_a_link_gone_silent_is_given_up_and_used_again_when_healed(postgres_url: str) -> None:
    link = Muffler(upstream_port=int(server(postgres_url).split(":")[1]))

    async def scenario() -> None:
        database = impatient_database(f"127.0.0.1:{link.port}")
        assert await database.fetchval("select 1") == 1
        link.mute = True
        began = time.monotonic()
        with pytest.raises(TimeoutError):  # sent, and no answer: in doubt
            await database.fetchval("select 1")
        with pytest.raises(Unavailable):  # nothing sent
            await database.fetchval("select 1")
        assert time.monotonic() - began < 3.0
        link.mute = False
        assert await database.fetchval("select 1") == 1
        database.close()

    try:
        asyncio.run(scenario())
    finally:
        link.close()


def test_connections_to_a_server_turned_read_only_are_replaced(postgres_url: str) -> None:
    """As after a failover whose old primary stays up: the pool must not stay with it."""

    async def scenario() -> None:
        database = impatient_database(server(postgres_url))
        backend = await database.fetchval("select pg_backend_pid()")
        await database.execute("set default_transaction_read_only = on")
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await database.execute("update payment set failure = null where false")
        await database.execute("update payment set failure = null where false")
        assert await database.fetchval("select pg_backend_pid()") != backend
        database.close()

    asyncio.run(scenario())
