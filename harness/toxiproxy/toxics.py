"""Every toxic of Toxiproxy as frozen data, checked before it is sent.

The server cannot be trusted with it: it accepts a mistyped attribute and does nothing, accepts a
toxicity of 50, and crashes on a negative bandwidth or a slicer without a size. Field names are
Toxiproxy's own, so that its documentation applies; the units stand beside them.

``stream`` is the way of the data that the toxic works on: ``upstream`` carries requests from the
client to the server, ``downstream`` the replies. ``toxicity`` is the share of *connections* (0 to 1)
that get it, drawn once per connection by the server, unseeded: a pooled connection is all or nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from harness.errors import LinkError
from harness.experiment.target import Frozen

Stream = Literal["upstream", "downstream"]

HOUR_MS = 3_600_000
HOUR_US = 3_600_000_000
MAX_BYTES = 2**40

Milliseconds = Annotated[int, Field(strict=True, ge=0, le=HOUR_MS)]


class Toxic(Frozen):
    """What all toxics have. Subclasses add ``type`` and their attributes."""

    type: str
    stream: Stream = "downstream"
    toxicity: float = Field(default=1.0, ge=0.0, le=1.0, strict=True)

    @property
    def attributes(self) -> dict[str, int]:
        """The toxic's own settings, by Toxiproxy's names."""
        return self.model_dump(exclude={"type", "stream", "toxicity"})


class Latency(Toxic):
    """Each chunk comes ``latency`` +/- ``jitter`` milliseconds later."""

    type: Literal["latency"] = "latency"
    latency: Milliseconds
    jitter: Milliseconds = 0

    @model_validator(mode="after")
    def _no_negative_delay(self) -> Latency:
        if self.jitter > self.latency:
            raise ValueError(
                f"jitter {self.jitter} ms is above latency {self.latency} ms: delays cannot be negative"
            )
        return self


class Bandwidth(Toxic):
    """At most ``rate`` kilobytes (of 1000) per second on each connection."""

    type: Literal["bandwidth"] = "bandwidth"
    rate: int = Field(strict=True, ge=1, le=100_000_000)


class SlowClose(Toxic):
    """The connection's end arrives ``delay`` milliseconds late."""

    type: Literal["slow_close"] = "slow_close"
    delay: Milliseconds


class Timeout(Toxic):
    """Data vanishes; the connection ends after ``timeout`` milliseconds of silence, 0: never.

    Removing it closes every connection it worked on.
    """

    type: Literal["timeout"] = "timeout"
    timeout: Milliseconds


class ResetPeer(Toxic):
    """The first chunk vanishes, and ``timeout`` milliseconds later the connection is reset.

    Only connections opened after it was added get a TCP RST; older ones just end. Idle ones stay.
    """

    type: Literal["reset_peer"] = "reset_peer"
    timeout: Milliseconds


class Slicer(Toxic):
    """Data comes in slices of ``average_size`` +/- ``size_variation`` bytes, ``delay`` microseconds apart."""

    type: Literal["slicer"] = "slicer"
    average_size: int = Field(strict=True, ge=1, le=MAX_BYTES)
    size_variation: int = Field(default=0, strict=True, ge=0, le=MAX_BYTES)
    delay: int = Field(default=0, strict=True, ge=0, le=HOUR_US)

    @model_validator(mode="after")
    def _slices_have_a_size(self) -> Slicer:
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"size_variation {self.size_variation} must be below average_size {self.average_size}"
            )
        return self


class LimitData(Toxic):
    """The connection ends once ``bytes`` bytes have passed."""

    type: Literal["limit_data"] = "limit_data"
    bytes: int = Field(strict=True, ge=0, le=MAX_BYTES)


AnyToxic = Annotated[
    Latency | Bandwidth | SlowClose | Timeout | ResetPeer | Slicer | LimitData, Field(discriminator="type")
]
_ADAPTER: TypeAdapter[Toxic] = TypeAdapter(AnyToxic)


def from_wire(body: dict[str, Any]) -> Toxic:
    """A toxic as an engine's API describes it (``type``, ``stream``, ``toxicity``, ``attributes``).

    Raises LinkError when it is none of ours, or its settings are out of range.
    """
    flat: dict[str, Any] = {key: body[key] for key in ("type", "stream") if key in body}
    flat["toxicity"] = float(body.get("toxicity", 1.0))
    try:
        return _ADAPTER.validate_python({**flat, **(body.get("attributes") or {})})
    except ValidationError as error:
        raise LinkError(f"the engine reports a toxic that cannot be: {body}: {error}") from error


def same(wanted: Toxic, found: Toxic) -> bool:
    """Equal but for the toxicity's last digits, which the server keeps as a 32-bit float."""
    close = abs(wanted.toxicity - found.toxicity) < 1e-6
    return close and wanted == found.model_copy(update={"toxicity": wanted.toxicity})
