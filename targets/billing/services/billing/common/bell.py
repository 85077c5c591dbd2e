"""What wakes a worker that also looks by itself from time to time."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Bell:
    """Rung when there is work. Work may also be left by another incarnation, which rings nobody's bell."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout_s: float, gather_s: float = 0.0) -> None:
        """Until it is rung, or until it is time to look anyway. What is rung from now on counts anew.

        ``gather_s``: so long is waited for more, once it has rung; who rings meanwhile is heard, too.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
                await asyncio.sleep(gather_s)
        self._rung.clear()
