"""Toxics are refused here when the server would take them and do nothing, or crash."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import LinkError
from harness.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
    from_wire,
    same,
)

GOOD: dict[type[Toxic], dict[str, Any]] = {
    Latency: {"latency": 100, "jitter": 10},
    Bandwidth: {"rate": 1},
    SlowClose: {"delay": 0},
    Timeout: {"timeout": 0},
    ResetPeer: {"timeout": 5},
    Slicer: {"average_size": 10, "size_variation": 9, "delay": 3},
    LimitData: {"bytes": 0},
}
BAD: list[tuple[type[Toxic], dict[str, Any], str]] = [
    (Latency, {"latncy": 100}, "latncy"),
    (Latency, {"latency": 100, "jitter": 101}, "delays cannot be negative"),
    (Latency, {"latency": -1}, "latency"),
    (Latency, {"latency": "100"}, "latency"),
    (Latency, {"latency": 100, "toxicity": 50.0}, "toxicity"),
    (Latency, {"latency": 100, "toxicity": -1.0}, "toxicity"),
    (Latency, {"latency": 100, "stream": "sideways"}, "stream"),
    (Bandwidth, {"rate": 0}, "rate"),
    (Bandwidth, {"rate": -5}, "rate"),
    (Bandwidth, {"rate": True}, "rate"),
    (Slicer, {"size_variation": 1}, "average_size"),
    (Slicer, {"average_size": 0}, "average_size"),
    (Slicer, {"average_size": 10, "size_variation": 10}, "must be below"),
    (Timeout, {}, "timeout"),
    (Timeout, {"timeout": 10**12}, "timeout"),
    (LimitData, {"bytes": 1.5}, "bytes"),
]


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_toxic_survives_the_way_to_the_engine_and_back(kind: type[Toxic]) -> None:
    toxic = kind(**GOOD[kind], stream="upstream", toxicity=0.25)
    wire = {"type": toxic.type, "stream": "upstream", "toxicity": 0.25, "attributes": toxic.attributes}
    assert toxic.attributes == GOOD[kind]
    assert same(toxic, from_wire(wire)) and type(from_wire(wire)) is kind


@pytest.mark.parametrize(("kind", "given", "why"), BAD)
def test_what_would_do_nothing_or_crash_is_refused(
    kind: type[Toxic], given: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValidationError, match=why):
        kind(**given)


def test_only_the_last_digits_of_the_toxicity_may_differ() -> None:
    wanted = Latency(latency=5, toxicity=0.1)
    assert same(wanted, Latency(latency=5, toxicity=0.10000000149011612))
    assert not same(wanted, Latency(latency=5, toxicity=0.11))
    assert not same(wanted, Latency(latency=6, toxicity=0.1))
    assert not same(wanted, Latency(latency=5, toxicity=0.1, stream="upstream"))


def test_an_impossible_toxic_on_the_engine_is_an_error_of_the_link() -> None:
    with pytest.raises(LinkError, match="cannot be"):
        from_wire({"type": "latency", "stream": "downstream", "toxicity": 50, "attributes": {"latency": 1}})
