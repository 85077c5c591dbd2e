"""The database pair of the reference stack on the process runtime, every edge through its proxy.

Real PostgreSQL, Patroni and etcd. About a minute: Patroni's shortest lease is 20 s.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from harness.experiment.target import TargetSpec
from harness.target.folder import load_target
from harness.target.process import ProcessRuntime
from harness.target.supervisor import Supervisor
from harness.toxiproxy.engine import Engine
from harness.toxiproxy.find import find_engine
from harness.toxiproxy.links import LinkLayer

pytestmark = pytest.mark.slow

BILLING = Path(__file__).parents[2] / "targets" / "billing"
NODES = ("db-1", "db-2")
Connection = psycopg.Connection[tuple[object, ...]]


def only_the_pair() -> TargetSpec:
    """The reference stack without the services above the database."""
    spec = load_target(BILLING)
    names = ("etcd", *NODES)
    links = {n: link for n, link in spec.links.items() if link.client in names and link.server in names}
    services = {name: spec.services[name] for name in names}
    return spec.model_copy(update={"services": services, "links": links})


@dataclass
class Pair:
    runtime: ProcessRuntime
    links: LinkLayer

    def holder(self, role: str) -> str:
        name = self.runtime.role(role)
        assert name is not None, f"nobody is {role}"
        return name

    def connect(self, node: str, user: str = "postgres") -> Connection:
        address = self.runtime.address(node, 5432)
        return psycopg.connect(
            host=address.host, port=address.port, dbname="billing", user=user, autocommit=True
        )

    def writable(self, node: str) -> bool:
        with self.connect(node) as connection:
            return connection.execute("select not pg_is_in_recovery()").fetchone() == (True,)

    def within(self, seconds: float, true: Callable[[], bool], what: str) -> float:
        """Seconds until it was true."""
        started = time.monotonic()
        while not true():
            assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
            time.sleep(0.1)
        return time.monotonic() - started


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with ExitStack() as undo:
        supervisor = undo.enter_context(Supervisor.start(f"pair-{uuid.uuid4().hex[:8]}"))
        runtime = ProcessRuntime(
            only_the_pair(),
            run_id=supervisor.run_id,
            scratch=supervisor.scratch,
            supervisor=supervisor,
            seed=1,
        )
        undo.callback(runtime.teardown)
        ends = runtime.prepare()
        log = supervisor.scratch / "logs" / "toxiproxy.log"
        links = LinkLayer(Engine.start(find_engine("auto"), supervisor, log, port=runtime.spare_port()))
        for link in ends.values():
            links.create(link.name, str(link.listen), str(link.upstream))
        runtime.deploy()
        yield Pair(runtime, links)
        assert runtime.deaths() == ()


def test_deployed_means_a_primary_and_a_synchronous_standby(pair: Pair) -> None:
    primary = pair.holder("db-primary")
    standby = pair.holder("db-sync-standby")
    assert {primary, standby} == set(NODES)
    with pair.connect(primary) as connection:
        rows = connection.execute("select application_name, state, sync_state from pg_stat_replication")
        assert rows.fetchall() == [(standby, "streaming", "sync")]
    with pair.connect(primary, "auditor") as connection:
        opened = "count(*) filter (where id like 'sub:%:main')"
        total = connection.execute(f"select sum(balance_minor), {opened} from charging.account").fetchone()
        assert total == (0, 1000), "the schema is there, and its opening balances"
    assert pair.runtime.versions()["patroni"]


def test_nodes_reach_each_other_and_etcd_through_their_proxies_only(pair: Pair) -> None:
    real = {str(pair.runtime.address("etcd", 2379))} | {
        str(pair.runtime.address(node, port)) for node in NODES for port in (5432, 8008)
    }
    for node in NODES:
        own = {str(pair.runtime.address(node, port)) for port in (5432, 8008)}
        seen = {str(address) for address in pair.runtime.connections(node)}
        assert str(pair.runtime.link(f"{node}->etcd").listen) in seen
        assert not seen & (real - own)
    standby, primary = pair.holder("db-standby"), pair.holder("db-primary")
    replication = str(pair.runtime.link(f"{standby}->{primary}").listen)
    assert replication in {str(address) for address in pair.runtime.connections(standby)}


def test_the_primary_dies_the_standby_takes_over_and_the_old_one_follows(pair: Pair) -> None:
    old, new = pair.holder("db-primary"), pair.holder("db-sync-standby")
    with pair.connect(old) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (7)")
    pair.runtime.kill(old)
    assert pair.runtime.connections(old) == ()
    pair.within(40, lambda: pair.runtime.role("db-primary") == new, f"{new} is primary")
    pair.within(5, lambda: pair.writable(new), "it has the role; a moment later it takes writes")
    with pair.connect(new) as connection:
        assert connection.execute("select n from kept").fetchall() == [(7,)]
        connection.execute("insert into kept values (8)")
    pair.runtime.start(old)
    pair.within(60, lambda: pair.runtime.role("db-sync-standby") == old, f"{old} is synchronous standby")
    with pair.connect(old) as connection:
        assert connection.execute("select n from kept order by n").fetchall() == [(7,), (8,)]
        assert connection.execute("select pg_is_in_recovery()").fetchone() == (True,)
