"""Calls to other parties: deadlines, few retries with full jitter, and a budget for retries.

What a caller may conclude: an ``Answer`` is what the other side said. ``CallFailed`` with
``may_have_arrived`` false means that no byte of any try ever left; true, that nobody knows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from billing.common.backoff import RetryBudget, backoff_s
from billing.common.log import describe
from billing.common.metrics import Metrics

# Raised while connecting: no request was sent.
NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class CallFailed(Exception):
    """No answer. ``may_have_arrived``: whether the other side may have acted on any of the tries."""

    def __init__(self, reason: str, *, may_have_arrived: bool) -> None:
        super().__init__(reason)
        self.may_have_arrived = may_have_arrived


@dataclass(frozen=True)
class Answer:
    """What the other side said."""

    status: int
    body: Any
    headers: Mapping[str, str]


def worth_a_retry(status: int) -> bool:
    return status in (408, 425, 429) or status >= 500


class HttpClient:
    """Keep-alive client of one party. ``name`` prefixes its counters: ``<name>.attempts``, ``.retries``."""

    def __init__(
        self,
        name: str,
        base_url: str,
        metrics: Metrics,
        *,
        timeout_s: float = 1.0,
        attempts: int = 3,
        budget: RetryBudget | None = None,
    ) -> None:
        self.name = name
        self._base_url = base_url
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._budget = budget or RetryBudget()
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        attempts: int | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Call, and call again on 5xx, 429 or silence. Raises CallFailed when nothing ever answered.

        The same request goes out each time, so it must be one that the other side knows again.
        """
        self._budget.called()
        last_answer: Answer | None = None
        doubt = False
        failure = ""
        for attempt in range(1, (attempts or self._attempts) + 1):
            if attempt > 1:
                if not self._budget.take():
                    self._metrics.add(f"{self.name}.retries_denied")
                    break
                self._metrics.add(f"{self.name}.retries")
                await asyncio.sleep(backoff_s(attempt - 1))
            try:
                answer = await self._once(method, path, body, headers, timeout_s or self._timeout_s)
            except NOT_SENT as error:
                failure = describe(error)
            except (aiohttp.ClientError, OSError) as error:
                failure, doubt = describe(error), True
            else:
                if not worth_a_retry(answer.status):
                    return answer
                last_answer, doubt = answer, doubt or answer.status >= 500
        if last_answer is not None:
            return last_answer
        self._metrics.add(f"{self.name}.failures")
        raise CallFailed(f"{self.name}: {failure}", may_have_arrived=doubt)

    async def _once(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Answer:
        """One try."""
        self._metrics.add(f"{self.name}.attempts")
        async with self._open().request(
            method,
            self._base_url + path,
            json=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            content = await response.read()
            return Answer(response.status, _parsed(content), response.headers)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _parsed(content: bytes) -> Any:
    """The JSON of a body, or None when it is none: an intermediary's error page, or nothing."""
    try:
        return json.loads(content)
    except ValueError:
        return None
