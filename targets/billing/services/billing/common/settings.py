"""Settings from the environment, under the names that ``compose.yaml`` gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """``listen``: where to serve. ``url("PSP_A")`` reads ``PSP_A_URL``, ``text`` any other."""

    listen_host: str
    listen_port: int
    environment: Mapping[str, str]

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Settings:
        environment = dict(os.environ if environment is None else environment)
        host, colon, port = environment.get("LISTEN", "").rpartition(":")
        if not colon or not port.isdigit():
            raise SystemExit(f"LISTEN must be host:port, not {environment.get('LISTEN')!r}")
        return cls(host, int(port), environment)

    def url(self, name: str) -> str:
        """The value of ``<name>_URL``, without a slash at its end."""
        return self.text(f"{name}_URL").rstrip("/")

    def text(self, name: str) -> str:
        """A setting that must be there and say something, by its full name."""
        if not (value := self.environment.get(name, "")):
            raise SystemExit(f"the environment variable {name} is missing or empty")
        return value
