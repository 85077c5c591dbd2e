"""toxiproxy-python, bound to one engine, and made safe.

The library keeps the server's host and port as attributes of one class, sends requests without a
deadline, takes 5xx for success and puts names into URLs unquoted. What it is good at, the shape of
each request, is kept; its ``APIConsumer`` is replaced by ``Api`` below. So that several engines can
be driven in one process, each ``Client`` loads the library's modules anew under a name of their own:
no state is shared, and the copy that others may have imported is left alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from types import ModuleType
from typing import Any
from urllib.parse import quote

import requests

from harness.errors import EnvironmentBroken, LinkError

_copies = itertools.count(1)


class EngineSilent(LinkError):
    """No answer within the deadline, a dead connection, or a 503: the engine has to be replaced."""


class NotFoundError(LinkError):
    """The engine has no such proxy or toxic."""


class Api:
    """Stands in for the library's ``APIConsumer``: same methods, with deadlines and real errors.

    A connection is never kept: one that the engine closed meanwhile would fail the next healing.
    The environment's proxy settings are ignored: this is loopback.
    """

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.host = host
        self.port = port
        self.timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Connection"] = "close"

    def get(self, url: str, **kwargs: Any) -> requests.Response:
        return self._ask("GET", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> requests.Response:
        return self._ask("POST", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> requests.Response:
        return self._ask("DELETE", url, **kwargs)

    def _ask(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        what = f"{method} {url} on the engine at {self.host}:{self.port}"
        kwargs.setdefault("timeout", self.timeout_s)
        try:
            answer = self._session.request(method, f"http://{self.host}:{self.port}{url}", **kwargs)
        except requests.RequestException as error:
            raise EngineSilent(f"no answer to {what}: {error}") from error
        if answer.status_code == 503:
            raise EngineSilent(f"{what} was given up by the engine itself (503)")
        if answer.status_code == 404:
            raise NotFoundError(f"{what}: {_complaint(answer)}")
        if not answer.ok:
            raise LinkError(f"{what} was refused with {answer.status_code}: {_complaint(answer)}")
        return answer


def _complaint(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200].strip() or "no reason given"


class Client:
    """One engine's API through toxiproxy-python. Not for several threads at once."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.api = Api(host, port, timeout_s)
        self._library = _private_library()
        self._library.proxy.APIConsumer = self.api
        self._library.server.APIConsumer = self.api
        self._server = self._library.server.Toxiproxy()

    def create(self, name: str, listen: str, upstream: str, enabled: bool) -> None:
        try:
            self._server.create(upstream=upstream, name=name, listen=listen, enabled=enabled)
        except self._library.exceptions.ProxyExists as error:
            raise LinkError(f"link {name!r} exists already on the engine") from error

    def proxy(self, name: str) -> Any:
        """The library's ``Proxy``, its name quoted for the URLs it builds."""
        return self._library.proxy.Proxy(name=quote(name, safe=""), upstream="", listen="", enabled=True)

    def describe(self, name: str) -> dict[str, Any]:
        """One proxy with its toxics, as the engine has it now."""
        return dict(self.api.get(f"/proxies/{quote(name, safe='')}").json())

    def describe_all(self) -> dict[str, dict[str, Any]]:
        return dict(self.api.get("/proxies").json())

    def remove_toxic(self, name: str, toxic_name: str, timeout_s: float) -> None:
        """Past the library, whose call takes no deadline: removing a reset_peer may rightly take long."""
        path = f"/proxies/{quote(name, safe='')}/toxics/{quote(toxic_name, safe='')}"
        self.api.delete(path, timeout=timeout_s)

    def metrics(self) -> str:
        return self.api.get("/metrics").text

    def version(self) -> str:
        return str(self.api.get("/version").json()["version"])


def _private_library() -> ModuleType:
    """A copy of the ``toxiproxy`` package of our own: its modules, loaded under another name."""
    found = importlib.util.find_spec("toxiproxy")
    if found is None or found.origin is None or found.submodule_search_locations is None:
        raise EnvironmentBroken("toxiproxy-python is not installed", hint="pip install toxiproxy-python")
    name = f"_toxiproxy_client_{next(_copies)}"
    spec = importlib.util.spec_from_file_location(
        name, found.origin, submodule_search_locations=list(found.submodule_search_locations)
    )
    assert spec is not None and spec.loader is not None  # a file that was just found
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
        importlib.import_module(f"{name}.exceptions")
    finally:  # imported for good; the registry need not know
        for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[loaded]
    return package
