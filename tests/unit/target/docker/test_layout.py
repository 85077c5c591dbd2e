"""Networks and names: every edge apart, no name at two addresses, as few networks as that allows."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from harness.experiment.target import Endpoint, Link, Role, Service, TargetSpec
from harness.target.docker.layout import PROXY, SERVICE, Layout, first_services, host, lay_out
from harness.target.folder import load_target

BILLING = Path(__file__).parents[4] / "targets" / "billing"


def spec(*edges: tuple[str, str, int]) -> TargetSpec:
    names = {end for client, server, _ in edges for end in (client, server)} - {"client"}
    links = {
        f"{client}->{server}:{port}": Link(
            name=f"{client}->{server}:{port}", client=client, server=server, port=port
        )
        for client, server, port in edges
    }
    services = {name: Service(name=name, process="true") for name in sorted(names)}
    return TargetSpec(name="t", folder=".", services=services, links=links, functions={}, entry="x")


def shape(layout: Layout, client: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(segment.name, segment.servers) for segment in layout.of_client(client)]


def test_servers_on_different_ports_share_a_network() -> None:
    layout = lay_out(spec(("a", "db", 5432), ("a", "web", 80)))
    assert shape(layout, "a") == [("a", ("db", "web"))]


def test_two_servers_on_one_port_need_two_networks() -> None:
    layout = lay_out(spec(("a", "db-1", 5432), ("a", "db-2", 5432), ("a", "broker", 4222)))
    assert shape(layout, "a") == [("a", ("db-1", "broker")), ("a.1", ("db-2",))]
    assert layout.of_link["a->db-2:5432"].name == "a.1"


def test_a_server_with_several_ports_is_one_name_in_one_network() -> None:
    layout = lay_out(spec(("a", "b", 1), ("a", "c", 2), ("a", "b", 2)))
    assert shape(layout, "a") == [("a", ("b",)), ("a.1", ("c",))]
    assert layout.of_link["a->b:1"] is layout.of_link["a->b:2"]


def test_who_depends_on_nobody_has_a_network_too_and_so_has_the_load() -> None:
    layout = lay_out(spec(("client", "a", 80), ("a", "b", 80)))
    assert shape(layout, "b") == [("b", ())]
    assert shape(layout, "client") == [("client", ("a",))]


def test_the_billing_stack_gets_no_more_networks_than_its_ports_ask_for() -> None:
    """So that a run fits beside others."""
    target = load_target(BILLING)
    layout = lay_out(target)
    assert set(layout.of_link) == set(target.links)
    for segment in layout.segments:
        ports = [link.port for link in target.links.values() if layout.of_link[link.name] is segment]
        assert len(ports) == len(set(ports)), f"two proxies on one port in {segment.name}"
    assert len({segment.name for segment in layout.segments}) == len(layout.segments)
    for client in {segment.client for segment in layout.segments}:
        dialled = {(link.server, link.port) for link in target.links.values() if link.client == client}
        on_one_port = Counter(port for _, port in dialled)
        assert len(layout.of_client(client)) == max([1, *on_one_port.values()]), client


def test_first_come_those_with_a_role_that_all_wait_for_and_whatever_these_depend_on() -> None:
    """By ``depends_on`` or by a link."""
    target = spec(("db", "etcd", 2379), ("web", "db", 5432))
    services = {**target.services, "disk": Service(name="disk")}
    services["etcd"] = services["etcd"].model_copy(update={"depends_on": ("disk",)})
    role = Role(members=("db",), endpoint=Endpoint(port=8008, path="/primary"))
    target = target.model_copy(update={"services": services, "roles": {"primary": role}})
    assert first_services(target) == frozenset()
    assert first_services(target.model_copy(update={"ready_when": ("primary",)})) == {"db", "etcd", "disk"}


@pytest.mark.parametrize(("number", "address"), [(PROXY, "198.18.3.18"), (SERVICE, "198.18.3.19")])
def test_addresses_within_a_subnet(number: int, address: str) -> None:
    assert str(host(IPv4Network("198.18.3.16/28"), number)) == address
