"""How long to wait before trying again."""

from __future__ import annotations

import random


def backoff_s(retry: int, *, base_s: float = 0.05, cap_s: float = 1.0) -> float:
    """Capped exponential back-off with full jitter; ``retry`` counts from 1."""
    return random.uniform(0, min(cap_s, base_s * 2**retry))
