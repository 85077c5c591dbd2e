"""Units as people write them: ``250ms``, ``120/s``. Inside, durations are seconds and rates per second.

``Seconds`` and ``PerSecond`` are annotated floats for pydantic models, the faults' ``Params`` among
them. A number without a unit is refused in a file (validation context ``WRITTEN``) and taken as the
base unit in code, so that ``Params(latency=0.3)`` works where nobody could misread it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

WRITTEN: Mapping[str, bool] = {"written": True}
MAX_DURATION_S = 24 * 3600.0

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PER_SECOND = {"s": 1.0, "min": 1 / 60}
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(ms|s|m|h)$"
RATE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?/ ?(s|min)$"
_DURATION = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)")
_RATE = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?) ?/ ?([a-zA-Z]+)")


def parse_duration(text: str) -> float:
    """``250ms``, ``10s``, ``2m`` or ``1h`` in seconds. Raises ValueError that says what is wrong."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 250ms, 10s, 2m or 1h")
    sign, number, unit = match.groups()
    if sign:
        raise ValueError(f"{text!r} is negative; a duration is 0s or more")
    if not unit:
        raise ValueError(f"{text!r} has no unit; did you mean {number}s?")
    if unit not in _SECONDS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; units are ms, s, m, h{_near_unit(unit)}")
    seconds = float(number) * _SECONDS[unit]
    if seconds > MAX_DURATION_S:
        raise ValueError(f"{text!r} is longer than a day")
    return seconds


def parse_rate(text: str) -> float:
    """``120/s`` or ``90/min`` per second. Raises ValueError that says what is wrong."""
    match = _RATE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a rate; write 120/s or 90/min")
    sign, number, unit = match.groups()
    if sign:
        raise ValueError(f"{text!r} is negative; a rate is above 0/s")
    if unit not in _PER_SECOND:
        raise ValueError(f"{text!r} has the unknown unit {unit!r}; rates are per s or per min")
    return float(number) * _PER_SECOND[unit]


def _near_unit(unit: str) -> str:
    known = {"sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m"}
    known |= {"minutes": "m", "hour": "h", "hours": "h", "msec": "ms", "hr": "h"}
    near = known.get(unit.lower()) or (unit.lower() if unit.lower() in _SECONDS else None)
    return f"; did you mean {near!r}?" if near else ""


def _written(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("written"))


def _duration(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    number = _number(value, "a duration; write 250ms, 10s, 2m or 1h")
    if _written(info) and number != 0:
        raise ValueError(f"{value!r} has no unit; did you mean {value}s?")
    if number < 0:
        raise ValueError(f"{value!r} is negative; a duration is 0s or more")
    return number


def _rate(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_rate(value)
    number = _number(value, "a rate; write 120/s or 90/min")
    if _written(info):
        raise ValueError(f"{value!r} has no unit; did you mean {value}/s?")
    return number


def _number(value: Any, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not {expected}")
    return float(value)


Seconds = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["250ms", "10s", "2m"]}),
]
"""Seconds; written ``250ms``, ``10s``, ``2m``, ``1h``."""

PerSecond = Annotated[
    float,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["120/s", "90/min"]}),
]
"""Per second; written ``120/s``, ``90/min``."""


def show_duration(seconds: float) -> str:
    """``12.5s``, ``250ms``: the shortest way to write it."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{round(seconds, 3):.10g}s"
