"""Finding the Docker engine and talking to it: which socket, which daemon, what it said no with.

Only the local socket is used unless a host is named: the SDK's own search would follow the user's
current context, which may be a production machine. The API version is negotiated, never pinned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils import parse_host

from harness.errors import EnvironmentBroken, InputError, LedgerquakeError

LOCAL = "unix:///var/run/docker.sock"
HOST_VARIABLE = "LEDGERQUAKE_DOCKER_HOST"
ANSWER_TIMEOUT_S = 60  # a container in eighty networks takes twenty to start on a small machine


class EngineGone(EnvironmentBroken):
    """The engine had answered before, and was stopped or restarted since: one text, however it shows."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the Docker engine at {url} was stopped or restarted in the middle",
            hint="when it is back, `ledgerquake cleanup` removes what is left there",
        )


class Client(docker.APIClient):
    """The SDK's client. Raises EngineGone when the engine is no longer there."""

    def __init__(self, url: str, timeout_s: int) -> None:
        """Asks the engine for its version."""
        self._where = url
        super().__init__(base_url=url, version="auto", timeout=timeout_s)
        self.trust_env = False  # proxies of the environment are for the world outside

    def send(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().send(*args, **kwargs)
        except requests.ConnectionError as problem:
            raise EngineGone(self._where) from problem


@dataclass(frozen=True)
class Docker:
    """An engine that answered. ``api`` is the SDK's low-level client: plain data in and out."""

    api: Client
    url: str
    daemon_id: str
    version: str
    api_version: str
    apart: str | None = None  # why its containers cannot be reached from here

    def check_within_reach(self) -> None:
        """The harness talks to containers at their own addresses, and looks at their processes.

        Raises EnvironmentBroken where the engine says that this cannot be.
        """
        if self.apart is not None:
            raise EnvironmentBroken(
                f"the Docker engine at {self.url} {self.apart}: its containers cannot be reached from here",
                hint="use an engine that runs on this machine as root, or --runtime process",
            )

    def __str__(self) -> str:
        return f"Docker {self.version} (API {self.api_version}) at {self.url}, daemon {self.daemon_id[:14]}"


def connect(named: str | None = None, timeout_s: int = ANSWER_TIMEOUT_S) -> Docker:
    """The engine at ``named``, at ``LEDGERQUAKE_DOCKER_HOST``, or at the local socket.

    Raises EnvironmentBroken when none answers, InputError for a host that cannot be read.
    """
    url = endpoint(named)
    with asking(f"reach a Docker engine at {url}"):
        try:
            api = Client(url, timeout_s)
        except TypeError as problem:  # how the SDK meets some broken sockets
            raise EnvironmentBroken(f"no Docker engine at {url}: {problem}") from problem
        about = api.info()
        return Docker(
            api, url, str(about["ID"]), str(about["ServerVersion"]), str(api.api_version), _apart(about)
        )


def is_there(named: str | None = None) -> bool:
    """Whether there is an engine that might answer this user: a socket that is missing, or closed to the
    user, has made nothing."""
    url = endpoint(named)
    return not url.startswith("unix://") or os.access(url.removeprefix("unix://"), os.W_OK)


def _apart(about: Mapping[str, Any]) -> str | None:
    if any("rootless" in str(option) for option in about.get("SecurityOptions") or ()):
        return "is rootless"
    if "Docker Desktop" in str(about.get("OperatingSystem")):
        return "runs in a virtual machine"
    return None


def endpoint(named: str | None = None) -> str:
    """Where the engine is asked for. ``DOCKER_HOST`` counts only where it names a local socket."""
    chosen = named or os.environ.get(HOST_VARIABLE)
    if chosen:
        try:
            parse_host(chosen)
        except DockerException as problem:
            raise InputError(f"Docker host {chosen!r}: {problem}", hint=f"for example {LOCAL}") from None
        return chosen
    usual = os.environ.get("DOCKER_HOST", "")
    return usual if usual.startswith("unix://") else LOCAL


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Whatever the engine, or the way to it, says no with becomes EnvironmentBroken: ``cannot <what>``.

    An engine that is no longer there is EngineGone.
    """
    try:
        yield
    except APIError as refusal:
        said = str(refusal.explanation or refusal)
        raise EnvironmentBroken(f"cannot {what}: {said}", hint=_hint(said)) from refusal
    except (DockerException, requests.RequestException) as problem:
        raise EnvironmentBroken(
            f"cannot {what}: {_plain(problem)}",
            hint=f"start it, or name another ({HOST_VARIABLE}, --docker-host); --runtime process needs none",
        ) from problem


def is_gone(refusal: APIError) -> bool:
    """What was asked about does not exist (any more)."""
    return isinstance(refusal, NotFound)


def _plain(problem: BaseException) -> str:
    """The innermost reason: the SDK wraps a refused socket four times."""
    while (inner := problem.__cause__ or problem.__context__) is not None:
        if isinstance(inner, LedgerquakeError) and not isinstance(inner, EngineGone):
            break  # what had been raised before, and has nothing to do with it
        problem = inner
    return str(problem) or type(problem).__name__


def _hint(said: str) -> str | None:
    if "no space left" in said.lower():
        return "the engine's disk is full: `docker system df` shows what it holds"
    if "permission denied" in said.lower():
        return "this user may not use the engine: usually group `docker`"
    return None
