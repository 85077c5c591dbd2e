"""Rounds of a worker: many calls at once, and none left running when a round ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def all_ended(calls: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Await all to their ends, whatever becomes of each; then raise the first error, if any."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def until_few(
    claim: Callable[[], Awaitable[Sequence[T]]], attend: Callable[[T], Coroutine[Any, Any, object]], many: int
) -> None:
    """Rounds, each of what ``claim`` gives then, until it gives fewer than ``many``."""
    while True:
        claimed = await claim()
        await all_ended(attend(one) for one in claimed)
        if len(claimed) < many:
            return
