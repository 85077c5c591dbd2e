"""Units as people write them: ``250ms``, ``120/s``, ``64MiB``. Inside: seconds, per second, bytes.

``Seconds``, ``PerSecond`` and ``Bytes`` are annotated numbers for pydantic models, the faults' ``Params``
among them. A number without a unit is refused in a file (validation context ``WRITTEN``) and taken as the
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
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)? ?(KiB|MiB|GiB)$"
_BYTES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)")
_RATE = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?) ?/ ?([a-zA-Z]+)")
_SIZE = re.compile(r"(-?)([0-9]+(?:\.[0-9]+)?) ?([a-zA-Z]*)")


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


def parse_size(text: str) -> int:
    """``512KiB``, ``64MiB`` or ``2GiB`` in bytes. Raises ValueError that says what is wrong."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size; write 512KiB, 64MiB or 2GiB")
    sign, number, unit = match.groups()
    if sign:
        raise ValueError(f"{text!r} is negative; a size is 0KiB or more")
    if unit not in _BYTES:
        meant = next((known for known in _BYTES if known[0] == unit[:1].upper()), "MiB")
        wrong = f"has the unknown unit {unit!r}; units are KiB, MiB, GiB" if unit else "has no unit"
        raise ValueError(f"{text!r} {wrong}; did you mean {number}{meant}?")
    return int(float(number) * _BYTES[unit])


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


def _size(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, str):
        return parse_size(value)
    number = _number(value, "a size; write 512KiB, 64MiB or 2GiB")
    if _written(info):
        raise ValueError(f"{value!r} has no unit; did you mean {value}MiB?")
    if number < 0:
        raise ValueError(f"{value!r} is negative; a size is 0 or more")
    return int(number)


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


Bytes = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["64MiB", "2GiB"]}),
]
"""Bytes; written ``512KiB``, ``64MiB``, ``2GiB``."""


def show_size(size_bytes: int) -> str:
    """``64MiB``, ``1.5GiB``: in the largest unit of which it is at least one."""
    unit = next((unit for unit in ("GiB", "MiB") if size_bytes >= _BYTES[unit]), "KiB")
    return f"{round(size_bytes / _BYTES[unit], 1):g}{unit}"


def show_duration(seconds: float) -> str:
    """``12.5s``, ``250ms``: the shortest way to write it."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{round(seconds, 3):.10g}s"
