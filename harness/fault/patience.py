"""Orders given again while they fail: who should obey may be just what another fault has taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import requests

from harness.errors import EnvironmentBroken
from harness.out_of_band import ask
from harness.target.order import never

PATIENCE_S = 20.0
TRY_S = 10.0  # for one answer: a mode that drains answers once what was under way has ended
LEAST_TRY_S = 1.0
PAUSE_S = 0.2


def tell(
    method: Literal["PUT", "POST"],
    url: str,
    body: Mapping[str, Any],
    what: str,
    *,
    patience_s: float | None = None,
    stopping: Callable[[], bool] = never,
) -> Mapping[str, Any]:
    """What the service said when it obeyed. ``what`` is asked of it, for people: ``set mode lockdown``.

    It may have been obeyed more than once: an answer that got lost is no refusal. Raises EnvironmentBroken
    after ``patience_s`` (20 s), at a stop, and for a request that can never be right.
    """
    patience_s = PATIENCE_S if patience_s is None else patience_s
    deadline = time.monotonic() + patience_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            answer = ask(method, url, json=dict(body), timeout_s=max(LEAST_TRY_S, min(TRY_S, left_s)))
        except requests.RequestException as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            if answer.ok:
                return _read(answer)
            problem = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code < 500:
                raise EnvironmentBroken(f"could not {what}: {problem}")
        if stopping() or time.monotonic() >= deadline:
            raise EnvironmentBroken(f"could not {what} in {patience_s:g} s: {problem}")
        time.sleep(PAUSE_S)


def _read(answer: requests.Response) -> Mapping[str, Any]:
    """Its JSON object; empty when it said something else."""
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}
