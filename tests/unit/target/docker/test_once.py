"""A question to an image ends in bounded time and bytes, and its container is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.errors import EnvironmentBroken
from harness.target.docker import once
from harness.target.docker.endpoint import Docker


class Api:
    """Prints ``parts``, and then nothing more until it is removed or, with ``ends``, comes to its end."""

    def __init__(self, parts: list[bytes], ends: bool = True) -> None:
        self.parts, self.ends = parts, ends
        self.removed = threading.Event()

    def create_host_config(self, **options: Any) -> dict[str, Any]:
        return options

    def create_container(self, ref: str, **options: Any) -> dict[str, str]:
        return {"Id": "c1"}

    def attach(self, container: str, **options: Any) -> Iterator[bytes]:
        yield from self.parts
        if not self.ends:
            self.removed.wait(10)

    def start(self, container: str) -> None:
        pass

    def remove_container(self, container: str, force: bool) -> None:
        assert container == "c1" and force
        self.removed.set()


def ask(api: Api) -> str:
    docker = Docker(api, "unix:///nowhere.sock", "ID", "20.10", "1.41")  # type: ignore[arg-type]
    return once.output_of(docker, "a:1", ["--version"])


def test_an_answer_is_all_that_was_printed() -> None:
    api = Api([b" version", b" 3\n"])
    assert ask(api) == "version 3" and api.removed.is_set()


def test_what_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "LONGEST_S", 0.05)
    api = Api([b"version 3"], ends=False)
    with pytest.raises(EnvironmentBroken, match=r"a:1 has not answered '--version' within 0 s"):
        ask(api)
    assert api.removed.is_set()


def test_what_prints_without_an_end_is_ended() -> None:
    api = Api([b"x" * once.MOST_BYTES, b"x"], ends=False)
    with pytest.raises(EnvironmentBroken, match="a:1 answers '--version' without an end"):
        ask(api)
    assert api.removed.is_set()
