"""Which links a fault means."""

from __future__ import annotations

import pytest

from harness.experiment.target import Link, Service, TargetSpec
from harness.fault.network import Partition, PartitionParams
from harness.fault.selection import expand_services, links_between, matching_links, neighbours


@pytest.fixture
def spec() -> TargetSpec:
    names = ["payments", "charging", "db-1", "db-2", "psp-a"]
    edges = [
        "payments->db-1",
        "payments->db-2",
        "charging->db-1",
        "charging->db-2",
        "payments->psp-a",
        "db-1->db-2",
    ]
    links = {
        edge: Link(name=edge, client=edge.split("->")[0], server=edge.split("->")[1], port=1)
        for edge in edges
    }
    return TargetSpec(
        name="t",
        folder=".",
        services={name: Service(name=name) for name in names},
        links=links,
        functions={},
        entry=edges[0],
        roles={},
    )


def cuts(spec: TargetSpec, between: list[object], direction: str) -> dict[str, tuple[str, ...]]:
    params = PartitionParams.model_validate({"between": between, "direction": direction})
    first, second = (expand_services(side, spec) for side in params.between)
    found = links_between(first, second, params.direction, spec, lambda name: (name,))
    return {cut.link: cut.streams for cut in found}


def test_both_directions_cut_both_streams(spec: TargetSpec) -> None:
    assert cuts(spec, ["payments", ["db-1", "db-2"]], "both") == {
        "payments->db-1": ("upstream", "downstream"),
        "payments->db-2": ("upstream", "downstream"),
    }


def test_from_means_that_replies_vanish(spec: TargetSpec) -> None:
    assert cuts(spec, ["payments", "psp-a"], "from") == {"payments->psp-a": ("downstream",)}


def test_to_means_that_requests_vanish(spec: TargetSpec) -> None:
    assert cuts(spec, ["payments", "psp-a"], "to") == {"payments->psp-a": ("upstream",)}


def test_direction_is_seen_from_the_first_set_even_when_the_link_runs_the_other_way(spec: TargetSpec) -> None:
    assert cuts(spec, ["psp-a", "payments"], "to") == {"payments->psp-a": ("downstream",)}


def test_patterns_and_unknown_names(spec: TargetSpec) -> None:
    assert matching_links(["payments->db-*"], spec) == ("payments->db-1", "payments->db-2")
    with pytest.raises(ValueError, match="did you mean 'payments->db-1'"):
        matching_links(["payments->db1"], spec)
    with pytest.raises(ValueError, match="did you mean 'payments'"):
        expand_services(["paymets"], spec)


def test_nothing_to_cut_is_an_error(spec: TargetSpec) -> None:
    params = PartitionParams.model_validate({"between": ["charging", "psp-a"]})
    with pytest.raises(ValueError, match="no link joins charging and psp-a"):
        Partition.touches(params, spec)


def test_neighbours_share_an_end_and_are_not_cut(spec: TargetSpec) -> None:
    names = [link.name for link in neighbours(["payments->db-1"], spec)]
    assert names == ["payments->db-2", "charging->db-1", "payments->psp-a"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"between": ["payments"]}, "two sides"),
        ({"between": ["payments", "db-1"], "mode": "reject", "direction": "to"}, "has no direction"),
        ({"between": ["payments", "db-1"], "mode": "dorp"}, "'drop', 'reject' or 'disconnect'"),
        ({"between": ["payments", "*"], "mode": "disconnect", "direction": "from"}, "has no direction"),
        ({"between": ["payments", "db-1"], "mode": "disconnect"}, 'one side must be "\\*".*drop or reject'),
        ({"between": ["payments", "db-*"], "mode": "disconnect"}, 'one side must be "\\*"'),
        ({"between": ["payments", ["*", "db-1"]], "mode": "disconnect"}, 'one side must be "\\*"'),
        ({"between": ["*", "*"], "mode": "disconnect"}, "one side must name what is unplugged"),
    ],
)
def test_bad_partitions(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartitionParams.model_validate(params)
