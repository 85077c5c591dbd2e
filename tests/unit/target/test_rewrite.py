"""From plain names to this deployment's addresses, and no way around a proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import TargetError
from harness.experiment.target import Link, Service, TargetSpec
from harness.target.rewrite import rewrite_environment

LINKS = ("pay->db-1:5432", "pay->db-10:5432", "pay->psp:8080", "db-2->db-1:5432")
PROXIES = {name: f"127.0.0.1:{20001 + number}" for number, name in enumerate(LINKS)}


NOWHERE = "127.0.0.1:9"


def rewritten(value: str, service: str = "pay", nowhere: str | None = None) -> str:
    names = ("pay", "db-1", "db-2", "db-10", "psp")
    services = {
        name: Service(
            name=name,
            environment={"X": value},
            volumes={"kept": "/data", "deeper": "/data/log"},
            advertise={5432: "db-2"} if name == "db-1" else {},
        )
        for name in names
    }
    links = {}
    for name in LINKS:
        client, _, rest = name.partition("->")
        server, _, port = rest.partition(":")
        links[name] = Link(name=name, client=client, server=server, port=int(port))
    spec = TargetSpec(name="t", folder=".", services=services, links=links, functions={}, entry=LINKS[0])
    return rewrite_environment(
        spec,
        services[service],
        own=lambda name, port: f"127.0.0.1:{port}-of-{name}",
        proxy=PROXIES.__getitem__,
        volumes={"kept": Path("/run/kept"), "deeper": Path("/run/deeper")},
        nowhere=nowhere,
    )["X"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://psp:8080/charges", f"http://{PROXIES['pay->psp:8080']}/charges"),
        (
            "postgresql://pay@db-1:5432,db-10:5432/x?a=b",
            f"postgresql://pay@{PROXIES['pay->db-1:5432']},{PROXIES['pay->db-10:5432']}/x?a=b",
        ),
        ("postgresql://pay:5432@db-1:5432/x", f"postgresql://pay:5432@{PROXIES['pay->db-1:5432']}/x"),
        ("0.0.0.0:8080", "127.0.0.1:8080-of-pay"),
        ("10.0.0.0:8080", "10.0.0.0:8080"),
        ("elsewhere:5432 x.db-1:5432 my-psp:8080", "elsewhere:5432 x.db-1:5432 my-psp:8080"),
        ("/data", "/run/kept"),
        ("/data/a:/data/log/b", "/run/kept/a:/run/deeper/b"),
        ("file=/data/log", "file=/run/deeper"),
        ("/database /my/data", "/database /my/data"),
    ],
)
def test_values(value: str, expected: str) -> None:
    assert rewritten(value) == expected


def test_its_own_name_is_how_the_named_peer_reaches_it() -> None:
    assert rewritten("db-1:5432", "db-1") == PROXIES["db-2->db-1:5432"]


@pytest.mark.parametrize(
    ("value", "service", "said"),
    [
        ("http://psp:8081", "pay", "psp:8081 is no declared link"),
        ("db-2:5432", "pay", "db-2:5432 is no declared link"),
        ("http://pay:8080", "psp", "pay:8080 is no declared link"),
        ("db-1:8008", "db-1", "its own name"),
    ],
)
def test_what_would_bypass_a_proxy_is_refused(value: str, service: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        rewritten(value, service)


@pytest.mark.parametrize(
    ("value", "service", "expected"),
    [
        ("http://psp:8081/x", "pay", f"http://{NOWHERE}/x"),
        ("db-2:5432,db-1:5432", "pay", f"{NOWHERE},{PROXIES['pay->db-1:5432']}"),
        ("http://pay:8080", "psp", f"http://{NOWHERE}"),
        ("db-1:8008", "db-1", NOWHERE),
        ("elsewhere:5432", "pay", "elsewhere:5432"),
    ],
)
def test_what_is_wrong_on_purpose_leads_nowhere(value: str, service: str, expected: str) -> None:
    assert rewritten(value, service, NOWHERE) == expected
