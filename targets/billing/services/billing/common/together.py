"""Many calls at once, of which none is left running."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def all_ended(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in the order of the calls. All are awaited to their ends, whatever becomes of each; then
    the first error is raised, if any.
    """
    results: list[T] = []
    for end in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(end, BaseException):
            raise end
        results.append(end)
    return results
