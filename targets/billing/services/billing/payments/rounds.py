"""A round of a worker: many calls at once, and none left running when the round ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def all_ended(calls: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Await all to their ends, whatever becomes of each; then raise the first error, if any."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
