"""A user's connections: one kept to each way into the target, and nothing sent twice behind our back.

Like the workload it imports Locust: only the load child does that.
"""

from __future__ import annotations

from collections.abc import Mapping

from geventhttpclient.client import HTTPClient, HTTPClientPool
from geventhttpclient.url import URL
from locust import FastHttpUser
from locust.contrib.fasthttp import FastHttpSession

from harness.experiment.names import unknown


class UnknownEntry(BaseException):
    """A locustfile names a way in that the target has not: the run cannot go on.

    No ``Exception``: a locustfile that catches those shall not take it for an answer.
    """


class _OneTryPool(HTTPClientPool):  # type: ignore[misc,unused-ignore]
    """Turns off the client's own silent retries: an attempt that is not counted is not honest.

    It repeats GET, PUT and DELETE when a kept connection has died, as often as the pool is large.
    """

    def get_client(self, url: str | URL) -> HTTPClient:
        client = super().get_client(url)
        client._connection_pool.size = -1  # only read to count those retries
        return client


class Sessions:
    """One Locust session for each way in: the user's own for the main one, others once they are needed."""

    def __init__(self, user: FastHttpUser, entries: Mapping[str, str]) -> None:
        """``entries``: the other ways in, name -> URL."""
        self._user = user
        self._entries = entries
        self._open: dict[str | None, FastHttpSession] = {None: _one_try(user.client)}

    def by(self, via: str | None) -> FastHttpSession:
        """The session of that way in; None: the main one. Raises UnknownEntry."""
        if via not in self._open:
            self._open[via] = self._another(via)
        return self._open[via]

    def _another(self, via: str | None) -> FastHttpSession:
        if via is None or via not in self._entries:
            raise UnknownEntry(unknown("entry", via, self._entries))
        user = self._user
        return _one_try(
            FastHttpSession(
                request_event=user.environment.events.request,
                base_url=self._entries[via],
                user=user,
                network_timeout=user.network_timeout,
                connection_timeout=user.connection_timeout,
                max_redirects=user.max_redirects,
                max_retries=user.max_retries,
                insecure=user.insecure,
                concurrency=user.concurrency,
            )
        )

    def close(self) -> None:
        """Close the kept connections; the next request opens another."""
        for session in self._open.values():
            close_kept(session)


def _one_try(session: FastHttpSession) -> FastHttpSession:
    agent = session.client
    agent.clientpool = _OneTryPool(**agent.clientpool.client_args)
    return session


def close_kept(session: FastHttpSession) -> None:
    session.client.clientpool.close()
