"""How long to wait before trying again, and how often one may."""

from __future__ import annotations

import random


def backoff_s(retry: int, *, base_s: float = 0.05, cap_s: float = 1.0) -> float:
    """Capped exponential back-off with full jitter; ``retry`` counts from 1."""
    return random.uniform(0, min(cap_s, base_s * 2**retry))


class RetryBudget:
    """Retries may be at most ``share`` of calls, above a small stock that lets a quiet caller retry."""

    def __init__(self, share: float = 0.15, stock: float = 5.0) -> None:
        self._share = share
        self._stock = stock
        self._tokens = stock

    def called(self) -> None:
        self._tokens = min(self._stock, self._tokens + self._share)

    def take(self) -> bool:
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
