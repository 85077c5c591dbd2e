"""The PSP's idempotency key is made where the request is sent, not where the payment is.

With every answer in time nobody notices. When an answer is lost, the retry is a second charge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from billing.common import Answer, HttpClient, app
from billing.common.idempotency import HEADER
from billing.payments.service import main


class KeyPerTry(HttpClient):
    """Adds something of its own to the key, each time a request leaves."""

    async def _once(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None, *rest: Any
    ) -> Answer:
        if headers and HEADER in headers:
            headers = {**headers, HEADER: f"{headers[HEADER]}/{uuid4().hex[:8]}"}
        return await super()._once(method, path, body, headers, *rest)


if __name__ == "__main__":
    app.HttpClient = KeyPerTry
    main()
