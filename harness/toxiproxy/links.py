"""``LinkLayer``: the links of a target, each one proxy of a Toxiproxy engine.

What an engine says is not believed: every change is read back and compared. What an engine cannot do
(answer, when a flooded connection holds its lock) is done for it: the engine is killed, started
anew, and given all links and toxics that are wanted, because its state was memory only. That breaks
every connection of the run, so it is reported through ``on_restart`` for the timeline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from harness.errors import EnvironmentBroken, LinkError
from harness.toxiproxy import metrics
from harness.toxiproxy.client import Client, EngineSilent, NotFoundError
from harness.toxiproxy.engine import EngineHandle
from harness.toxiproxy.metrics import LinkBytes
from harness.toxiproxy.toxics import Bandwidth, ResetPeer, Slicer, Toxic, from_wire, same

__all__ = ["EngineRestart", "LinkBytes", "LinkLayer", "LinkState"]

ANSWER_TIMEOUT_S = 4.0
PORT_PATIENCE_S = 3.0
T = TypeVar("T")


@dataclass(frozen=True)
class LinkState:
    """One link as it is meant to be, or as the engine has it."""

    name: str
    listen: str
    upstream: str
    enabled: bool = True
    toxics: Mapping[str, Toxic] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineRestart:
    """The engine was replaced: every connection through any link was broken at ``at_ns`` (epoch)."""

    at_ns: int
    took_s: float
    cause: str


class LinkLayer:
    """Creates links and changes them. Thread-safe: one request to the engine at a time.

    Every method raises LinkError when the engine refuses or reports another state than the one asked
    for; when it does not answer, it is replaced (see ``recover``) and the method succeeds.
    ``timeout_s`` bounds each request.
    """

    def __init__(
        self,
        engine: EngineHandle,
        *,
        on_restart: Callable[[EngineRestart], None] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._engine = engine
        self._client = Client(engine.host, engine.port, timeout_s)
        self._timeout_s = timeout_s
        self._on_restart = on_restart
        self._wanted: dict[str, LinkState] = {}
        self._lock = threading.RLock()

    # --- changes --------------------------------------------------------------------------------
    def create(self, name: str, listen: str, upstream: str) -> str:
        """A link that listens on ``listen`` and dials ``upstream`` (both ``host:port``), enabled.

        Returns where it listens; port 0 asks for a free one, which it then keeps. The engine accepts a
        connection before it dials, so a connect says nothing about the upstream.
        """
        _check_name(name, "link")
        with self._lock:
            if name in self._wanted:
                raise LinkError(f"link {name!r} exists already")
            wanted = LinkState(name, listen, upstream)
            self._change(wanted, lambda: self._client.create(name, listen, upstream, True))
            found = self.state(name).listen
            self._wanted[name] = replace(wanted, listen=found)
            return found

    def set_enabled(self, name: str, enabled: bool) -> None:
        """False ends every open connection (FIN) and refuses new ones; True listens again. Idempotent."""
        with self._lock:
            wanted = replace(self._known(name), enabled=enabled)
            proxy = self._client.proxy(name)
            self._change(wanted, lambda: _with_patience(proxy.enable if enabled else proxy.disable))

    def add_toxic(self, name: str, toxic_name: str, toxic: Toxic) -> None:
        """Add a toxic at the end of its stream's chain. Its name must be new on this link."""
        _check_name(toxic_name, "toxic")
        with self._lock:
            link = self._known(name)
            if toxic_name in link.toxics:
                raise LinkError(f"link {name!r} has a toxic {toxic_name!r} already")
            wanted = replace(link, toxics={**link.toxics, toxic_name: toxic})
            self._change(wanted, lambda: self._send_toxic(name, toxic_name, toxic))

    def remove_toxic(self, name: str, toxic_name: str) -> None:
        """Remove a toxic; gone already is fine. Removing a ``timeout`` closes its connections.

        A ``reset_peer`` toxic goes only after its own timeout, a slow ``bandwidth`` or ``slicer`` may
        take as long as the chunk in hand: the deadline of this one request allows for it.
        """
        with self._lock:
            link = self._known(name)
            toxic = link.toxics.get(toxic_name)
            rest = {key: value for key, value in link.toxics.items() if key != toxic_name}

            def remove() -> None:
                try:
                    self._client.remove_toxic(name, toxic_name, self._timeout_s + _removal_s(toxic))
                except NotFoundError:
                    return  # the read-back below tells a missing toxic from a missing link

            self._change(replace(link, toxics=rest), remove)

    # --- looking --------------------------------------------------------------------------------
    def names(self) -> tuple[str, ...]:
        """The links that were created, in that order."""
        with self._lock:
            return tuple(self._wanted)

    def toxics(self, name: str) -> Mapping[str, Toxic]:
        """The toxics on this link as the engine has them now, by name."""
        return self.state(name).toxics

    def state(self, name: str) -> LinkState:
        """This link as the engine has it now."""
        with self._lock:
            self._known(name)
            return _state(self._read(lambda: self._client.describe(name)))

    def snapshot(self) -> Mapping[str, LinkState]:
        """All links as the engine has them now, by name."""
        with self._lock:
            found = self._read(self._client.describe_all)
        return MappingProxyType({name: _state(body) for name, body in found.items()})

    def bytes_closed(self, name: str) -> LinkBytes:
        """Bytes of this link's *closed* connections since the engine started.

        The engine adds a connection's bytes when that connection closes, not while they flow; a
        direction whose writing failed adds nothing to ``sent``. A replaced engine counts from 0.
        """
        with self._lock:
            self._known(name)
            return metrics.read(self._read(self._client.metrics)).get(name, LinkBytes())

    # --- when the engine is silent ---------------------------------------------------------------
    def recover(self, cause: str) -> None:
        """Replace the engine and give the new one all links and toxics that are wanted.

        Every connection through any link breaks; ``on_restart`` is told. Raises LinkError when the
        new engine cannot be brought to the wanted state either.
        """
        with self._lock:
            at_ns, started = time.time_ns(), time.monotonic()
            try:
                self._engine.restart()
            except EnvironmentBroken as error:
                raise LinkError(
                    f"the engine fell silent ({cause}) and could not be replaced: {error}"
                ) from error
            for wanted in self._wanted.values():
                self._recreate(wanted)
            if self._on_restart is not None:
                self._on_restart(EngineRestart(at_ns, time.monotonic() - started, cause))

    def _recreate(self, wanted: LinkState) -> None:
        """Toxics first, then enabled: no connection slips through before its toxics are there."""
        _with_patience(lambda: self._client.create(wanted.name, wanted.listen, wanted.upstream, False))
        for toxic_name, toxic in wanted.toxics.items():
            self._send_toxic(wanted.name, toxic_name, toxic)
        if wanted.enabled:
            _with_patience(self._client.proxy(wanted.name).enable)
        self._compare(wanted)

    # --- inside ---------------------------------------------------------------------------------
    def _known(self, name: str) -> LinkState:
        if name not in self._wanted:
            raise LinkError(
                f"there is no link {name!r}", hint=f"links: {', '.join(self._wanted) or 'none yet'}"
            )
        return self._wanted[name]

    def _send_toxic(self, name: str, toxic_name: str, toxic: Toxic) -> None:
        self._client.proxy(name).add_toxic(
            name=toxic_name,
            type=toxic.type,
            stream=toxic.stream,
            toxicity=toxic.toxicity,
            attributes=toxic.attributes,
        )

    def _change(self, wanted: LinkState, send: Callable[[], None]) -> None:
        """Send one change and read it back. ``wanted`` holds from here on, on a new engine if need be."""
        try:
            send()
            self._compare(wanted)
        except EngineSilent as silence:
            self._wanted[wanted.name] = wanted
            self.recover(str(silence))
        self._wanted[wanted.name] = wanted

    def _read(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except EngineSilent as silence:
            self.recover(str(silence))
            return ask()

    def _compare(self, wanted: LinkState) -> None:
        found = _state(self._client.describe(wanted.name))
        differences = [
            f"{what} is {is_now!r}, asked for {asked!r}"
            for what, asked, is_now in (
                ("enabled", wanted.enabled, found.enabled),
                ("upstream", wanted.upstream, found.upstream),
                ("listen port", _port(wanted.listen), _port(found.listen)),
                ("toxics", sorted(wanted.toxics), sorted(found.toxics)),
            )
            if asked != is_now and not (what == "listen port" and asked == "0")
        ]
        differences += [
            f"toxic {key!r} is {found.toxics[key]!r}, asked for {toxic!r}"
            for key, toxic in wanted.toxics.items()
            if key in found.toxics and not same(toxic, found.toxics[key])
        ]
        if differences:
            raise LinkError(
                f"the engine did not do as asked on link {wanted.name!r}: {'; '.join(differences)}"
            )


def _state(body: dict[str, Any]) -> LinkState:
    return LinkState(
        name=str(body["name"]),
        listen=str(body["listen"]),
        upstream=str(body["upstream"]),
        enabled=bool(body["enabled"]),
        toxics=MappingProxyType({str(one["name"]): from_wire(one) for one in body["toxics"]}),
    )


def _check_name(name: str, what: str) -> None:
    """The engine's URLs cannot carry every name, however it is quoted."""
    if not name or name in (".", "..") or "/" in name or any(ord(letter) < 32 for letter in name):
        raise LinkError(f"{name!r} cannot be the name of a {what}", hint="no slash, no control characters")


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _removal_s(toxic: Toxic | None) -> float:
    """How long the engine may rightly take to remove it."""
    if isinstance(toxic, ResetPeer):
        return toxic.timeout / 1000
    if isinstance(toxic, Slicer):
        return toxic.delay / 1_000_000
    return 0.1 if isinstance(toxic, Bandwidth) else 0.0


def _with_patience(send: Callable[[], None]) -> None:
    """A port that was just given up may be taken for an instant by an outgoing connection: try again."""
    deadline = time.monotonic() + PORT_PATIENCE_S
    while True:
        try:
            return send()
        except EngineSilent:
            raise
        except LinkError as error:
            if "address already in use" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
