"""Rounds of a worker: many calls at once, and none left running when a round ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from billing.common import all_ended

T = TypeVar("T")


async def until_few(
    claim: Callable[[], Awaitable[Sequence[T]]], attend: Callable[[T], Coroutine[Any, Any, object]], many: int
) -> None:
    """Rounds, each of what ``claim`` gives then, until it gives fewer than ``many``."""
    while True:
        claimed = await claim()
        await all_ended(attend(one) for one in claimed)
        if len(claimed) < many:
            return
