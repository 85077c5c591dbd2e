"""Quantities as people write them: ``250ms``, ``10s``, ``120/s``, ``99.9%`` -> base units.

Durations become seconds, rates arrivals per second, percentages numbers from 0 to 100.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|min|h)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|min|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

DURATION_PATTERN = r"^\d+(\.\d+)?\s*(us|ms|s|m|min|h)$"
RATE_PATTERN = r"^\d+(\.\d+)?\s*/\s*(s|min|h)$"


def parse_duration(value: object) -> float:
    """``"250ms"`` -> 0.25. A bare 0 is allowed; any other bare number has no unit and is refused."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 0:
        return 0.0
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration: write a number and a unit, such as 250ms, 10s or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def parse_rate(value: object) -> float:
    """``"120/s"`` -> 120.0 arrivals per second; must be above 0."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is not a rate: write a number above 0 per time, such as 120/s or 90/min")
    return float(match[1]) / _SECONDS[match[2]]


def _duration_or_seconds(value: object) -> float:
    """Python code may pass seconds as a float; text must carry its unit."""
    return float(value) if isinstance(value, float) else parse_duration(value)


def _rate_or_number(value: object) -> float:
    return float(value) if isinstance(value, float) else parse_rate(value)


Seconds = Annotated[
    float,
    BeforeValidator(_duration_or_seconds),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION_PATTERN, "examples": ["250ms", "10s", "2m"]}),
]
PerSecond = Annotated[
    float,
    BeforeValidator(_rate_or_number),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["120/s", "90/min"]}),
]
