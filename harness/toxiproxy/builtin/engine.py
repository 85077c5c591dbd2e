"""All proxies of one engine, and the bytes that went through them."""

from __future__ import annotations

from typing import Any

from harness.toxiproxy.builtin.proxy import Proxy, split_address
from harness.toxiproxy.builtin.specs import ApiError, Direction

Series = tuple[str, str, str, str]  # direction, listener, proxy, upstream


class Proxies:
    """By name. Counters outlive the proxies they were counted for, as in the real server."""

    def __init__(self) -> None:
        self.by_name: dict[str, Proxy] = {}
        self._bytes: dict[str, dict[Series, int]] = {"received": {}, "sent": {}}

    def get(self, name: str) -> Proxy:
        if name not in self.by_name:
            raise ApiError(404, "proxy not found")
        return self.by_name[name]

    async def create(self, body: dict[str, Any]) -> Proxy:
        proxy, enabled = self._read(body, "")
        if proxy.name in self.by_name:
            raise ApiError(409, "proxy already exists")
        if enabled:
            await proxy.start()
        self.by_name[proxy.name] = proxy
        return proxy

    async def update(self, name: str, body: dict[str, Any]) -> Proxy:
        proxy = self.get(name)
        listen = _text(body, "listen", proxy.listen)
        upstream = _text(body, "upstream", proxy.upstream)
        split_address(listen)
        await proxy.update(listen, upstream, _flag(body, "enabled", proxy.enabled))
        return proxy

    def remove(self, name: str) -> None:
        self.get(name).stop()
        del self.by_name[name]

    async def populate(self, entries: list[dict[str, Any]]) -> list[Proxy]:
        """A proxy that is there and the same is kept with its toxics; one that differs is replaced."""
        wanted = [self._read(body, f" at proxy {place + 1}") for place, body in enumerate(entries)]
        done = []
        for proxy, enabled in wanted:
            present = self.by_name.get(proxy.name)
            if present and (present.listen, present.upstream) == (proxy.listen, proxy.upstream):
                done.append(present)
                continue
            if present:
                present.stop()
            if enabled:
                await proxy.start()
            self.by_name[proxy.name] = proxy
            done.append(proxy)
        return done

    async def reset(self) -> None:
        """Enable all and remove all toxics; stops at the first that cannot be enabled."""
        for proxy in tuple(self.by_name.values()):
            if not proxy.enabled:
                await proxy.start()
            for name in [spec.name for chain in proxy.toxics.values() for spec in chain]:
                proxy.remove_toxic(name)

    def stop(self) -> None:
        for proxy in self.by_name.values():
            proxy.stop()

    def count(self, proxy: Proxy, direction: Direction, what: str, number: int) -> None:
        series = (direction, proxy.listen, proxy.name, proxy.upstream)
        counters = self._bytes[what]
        counters[series] = counters.get(series, 0) + number

    def metrics(self) -> str:
        """The counters in Prometheus' text format, under the real server's names."""
        lines = []
        for what, counters in self._bytes.items():
            name = f"toxiproxy_proxy_{what}_bytes_total"
            lines += [f"# HELP {name} ", f"# TYPE {name} counter"] if counters else []
            for series, number in sorted(counters.items()):
                keys = ("direction", "listener", "proxy", "upstream")
                labels = ",".join(f'{key}="{_escape(text)}"' for key, text in zip(keys, series, strict=True))
                lines.append(f"{name}{{{labels}}} {number}")
        return "\n".join([*lines, ""])

    def _read(self, body: dict[str, Any], where: str) -> tuple[Proxy, bool]:
        for field in ("name", "upstream"):
            if not _text(body, field, ""):
                raise ApiError(400, f"missing required field: {field}{where}")
        listen = _text(body, "listen", "") or ":0"
        split_address(listen)
        proxy = Proxy(body["name"], listen, body["upstream"], self.count)
        return proxy, _flag(body, "enabled", True)


def _text(body: dict[str, Any], field: str, default: str) -> str:
    value = body.get(field, default)
    if not isinstance(value, str):
        raise ApiError(400, f"bad request body: {field} must be text, not {value!r}")
    return value


def _flag(body: dict[str, Any], field: str, default: bool) -> bool:
    value = body.get(field)
    if not isinstance(value, bool | None):
        raise ApiError(400, f"bad request body: {field} must be true or false, not {value!r}")
    return default if value is None else value


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
