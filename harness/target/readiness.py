"""Asking services over HTTP, out of band: never through a proxy of the environment or of a link."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import NotReady
from harness.experiment.target import Endpoint
from harness.target.runtime import Address

ASK_TIMEOUT_S = 1.0
POLL_S = 0.05
LAST_LINES = 40


@dataclass(frozen=True)
class Answer:
    """``status`` None: no answer; ``text`` then says why."""

    status: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.status} {self.text}".strip() if self.status is not None else self.text


def ask(address: Address, endpoint: Endpoint, timeout_s: float = ASK_TIMEOUT_S) -> Answer:
    """One HTTP question. Never raises."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    try:
        connection.request(endpoint.method, endpoint.path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(300).decode("utf-8", "replace").strip())
    except (OSError, http.client.HTTPException) as problem:
        return Answer(None, f"no answer ({type(problem).__name__}: {problem})")
    finally:
        connection.close()


def last_lines(log: Path, lines: int = LAST_LINES) -> str:
    """The end of a log, for messages; empty when there is none."""
    try:
        with log.open("rb") as source:
            source.seek(0, 2)
            source.seek(max(0, source.tell() - 8192))
            return "\n".join(source.read().decode("utf-8", "replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def await_ready(
    service: str,
    check: Callable[[], Answer],
    *,
    what: str,
    timeout_s: float,
    log: Callable[[], Path],
    over: Callable[[], str | None],
) -> None:
    """Ask until 200. ``over`` may end the wait early, with the reason.

    Raises NotReady: what was awaited, for how long, the last answer, the last log lines.
    """
    started = time.monotonic()
    while True:
        reason = over()
        answer = check()
        if answer.status == 200 and reason is None:
            return
        waited_s = time.monotonic() - started
        if reason is not None or waited_s > timeout_s:
            file = log()
            tail = last_lines(file)
            raise NotReady(
                f"{service} is not ready: awaited {what} for {waited_s:.1f} s"
                f"{f' until {reason}' if reason else ''}; last answer: {answer}"
                + (f"\nlast lines of {file.name}:\n{tail}" if tail else "\nits log is empty")
            )
        time.sleep(POLL_S)
