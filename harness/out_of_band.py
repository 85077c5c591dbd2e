"""Requests that the harness makes past every proxy: readiness, roles, jobs, probes, what faults ask.

They go straight to an address of this deployment. The environment of whoever started the run
(``HTTP_PROXY``, ``.netrc``) has no say: a proxy that answers in a service's place would be evidence
of nothing.
"""

from __future__ import annotations

from typing import Any

import requests


def session() -> requests.Session:
    """A session that obeys no environment. Not for several threads at once."""
    fresh = requests.Session()
    fresh.trust_env = False
    return fresh


def ask(method: str, url: str, *, timeout_s: float, json: Any = None) -> requests.Response:
    """One request on a connection of its own. Raises requests.RequestException."""
    with session() as fresh:
        return fresh.request(method, url, json=json, timeout=timeout_s)
