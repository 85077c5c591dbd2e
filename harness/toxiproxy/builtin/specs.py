"""A toxic as the HTTP API knows it: reading, checking and showing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

Direction = Literal["upstream", "downstream"]

# attribute -> the least value that makes sense; what is not given is 0, as in the real server
ATTRIBUTES: dict[str, dict[str, int]] = {
    "noop": {},
    "latency": {"latency": 0, "jitter": 0},
    "bandwidth": {"rate": 0},
    "slow_close": {"delay": 0},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 1, "size_variation": 0, "delay": 0},
    "limit_data": {"bytes": 0},
}
LARGEST = 2**62


class ApiError(Exception):
    """Becomes the answer ``{"error": ..., "status": ...}``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class ToxicSpec:
    """One toxic of one proxy."""

    name: str
    type: str
    direction: Direction
    toxicity: float
    attributes: dict[str, int]

    def show(self) -> dict[str, Any]:
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.direction,
            "toxicity": self.toxicity,
        }


def read_toxic(body: dict[str, Any]) -> ToxicSpec:
    """A new toxic from a request. Raises ApiError 400."""
    stream = str(body.get("stream", "downstream")).lower()
    if stream not in ("upstream", "downstream"):
        raise ApiError(400, "stream was invalid, can be either upstream or downstream")
    kind = body.get("type")
    if not isinstance(kind, str) or kind not in ATTRIBUTES:
        raise ApiError(400, "invalid toxic type")
    name = body.get("name") or f"{kind}_{stream}"
    if not isinstance(name, str):
        raise ApiError(400, f"bad request body: name must be text, not {name!r}")
    unset = dict.fromkeys(ATTRIBUTES[kind], 0)
    return ToxicSpec(
        name=name,
        type=kind,
        direction=cast(Direction, stream),
        toxicity=_toxicity(body.get("toxicity", 1)),
        attributes=_attributes(kind, unset, body.get("attributes")),
    )


def updated(spec: ToxicSpec, body: dict[str, Any]) -> ToxicSpec:
    """``spec`` with the attributes and toxicity that a request names. Raises ApiError 400."""
    return replace(
        spec,
        toxicity=_toxicity(body.get("toxicity", spec.toxicity)),
        attributes=_attributes(spec.type, spec.attributes, body.get("attributes")),
    )


def _toxicity(value: Any) -> float:
    """Not checked for its range, as in the real server: 50 is always, -1 is never."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ApiError(400, f"bad request body: toxicity must be a number, not {value!r}")
    return value


def _attributes(kind: str, present: dict[str, int], given: Any) -> dict[str, int]:
    """Unknown attributes are passed over, as in the real server."""
    if not isinstance(given, dict | None):
        raise ApiError(400, f"bad request body: attributes must be an object, not {given!r}")
    attributes = {**present, **{key: value for key, value in (given or {}).items() if key in present}}
    for key, least in ATTRIBUTES[kind].items():
        value = attributes[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise ApiError(400, f"bad request body: attributes.{key} must be a whole number, not {value!r}")
        if not least <= value <= LARGEST:
            raise ApiError(400, f"bad request body: attributes.{key} is {value}, the least is {least}")
    return attributes
