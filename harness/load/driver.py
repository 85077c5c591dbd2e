"""The harness's end of the load: starts the child process, watches its figures, stops it.

Locust is never imported here. What the driver believes of the child it reads from files: the figures
of each second, the summary, and the number of rows that are really in the record file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import harness
from harness.errors import EnvironmentBroken, NotReady
from harness.evidence.model import LoadSummary
from harness.load import records
from harness.load.config import ChildConfig, Folder, write_whole
from harness.load.figures import LiveSecond
from harness.plan import LoadPlan
from harness.spawn import Child, Spawner

__all__ = ["LiveSecond", "LoadDriver"]

ARM_TIMEOUT_S = 30.0
LEAD_S = 0.5  # the word to go must be given this long before T0, or longer
STOP_TIMEOUT_S = 10.0  # operations may take their whole deadline to end
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "TZ")


class LoadDriver:
    """One load run in ``folder``: ``arm``, ``start``, ``live`` while it runs, ``stop``.

    ``host_url``: where the target's entry link listens; ``entries``: where its other ways in do, by their
    names. ``python_path``: folders from which the
    locustfile may import. The child is spawned, and therefore cleaned up after, by ``spawner``.
    """

    def __init__(
        self,
        plan: LoadPlan,
        *,
        host_url: str,
        entries: Mapping[str, str] | None = None,
        locustfile: Path,
        python_path: Sequence[str | Path] = (),
        spawner: Spawner,
        folder: Path,
        max_users: int = 2000,
    ) -> None:
        self._files = Folder(folder.resolve())
        self._config = ChildConfig(
            plan=plan,
            host_url=host_url,
            entries=dict(entries or {}),
            locustfile=str(locustfile.resolve()),
            python_path=tuple(str(Path(path).resolve()) for path in python_path),
            folder=str(self._files.path),
            max_users=max_users,
        )
        self._spawner = spawner
        self._child: Child | None = None
        self._armed = False
        self._live: list[LiveSecond] = []
        self._read_to = 0

    @property
    def operations_file(self) -> Path:
        """The record file; ``harness.load.records`` reads it."""
        return self._files.operations

    @property
    def log(self) -> Path:
        return self._files.log

    @property
    def exit_code(self) -> int | None:
        """None while the child lives, or was never started."""
        return self._child.poll() if self._child else None

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def arm(self, timeout_s: float = ARM_TIMEOUT_S) -> None:
        """Start the child and wait until it has reached the target. No load is sent yet.

        Raises NotReady when it ends, or is not armed in time.
        """
        files = self._files
        files.path.mkdir(parents=True, exist_ok=True)
        for stale in (files.armed, files.go, files.operations, files.figures, files.summary):
            stale.unlink(missing_ok=True)
        write_whole(files.config, self._config.model_dump_json())
        argv = [sys.executable, "-P", "-m", "harness.load.child", str(files.config)]
        self._child = self._spawner.spawn("load", argv, env=child_env(), cwd=files.path, log=files.log)
        deadline = time.monotonic() + timeout_s
        while not files.armed.exists():
            code = self._child.poll()
            if code is not None:
                raise NotReady(
                    f"the load generator ended with {code} before it was armed\n{self._last_log()}"
                )
            if time.monotonic() > deadline:
                self._child.signal(signal.SIGKILL)
                raise NotReady(f"the load generator was not armed after {timeout_s:g} s\n{self._last_log()}")
            time.sleep(0.02)
        self._armed = True

    def start(self, at_ns: int | None = None) -> int:
        """Give the word to go: load starts at ``at_ns`` (epoch), or ``LEAD_S`` from now.

        Arms first unless that was done. Returns T0. Raises EnvironmentBroken when ``at_ns`` is less
        than ``LEAD_S`` ahead: arrivals would be late before the first was sent.
        """
        if not self._armed:
            self.arm()
        now_ns = time.time_ns()
        t0_ns = now_ns + int(LEAD_S * 1e9) if at_ns is None else at_ns
        if t0_ns - now_ns < int(LEAD_S * 0.9e9):
            raise EnvironmentBroken(
                f"load was to start {(t0_ns - now_ns) / 1e9:.3f} s from now, it needs {LEAD_S:g} s",
                hint="arm() the driver first, then choose the start",
            )
        write_whole(self._files.go, str(t0_ns))
        return t0_ns

    def live(self) -> list[LiveSecond]:
        """Every second that is over, oldest first; each comes about 0.1-0.4 s after its end."""
        if self._files.figures.exists():
            with self._files.figures.open("rb") as source:
                source.seek(self._read_to)
                for line in source:
                    if not line.endswith(b"\n"):
                        break
                    self._read_to += len(line)
                    self._live.append(LiveSecond.from_json(json.loads(line)))
        return list(self._live)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> LoadSummary:
        """End the load: SIGTERM, then SIGKILL after ``timeout_s``. Idempotent.

        ``recorded``, the operations that began, is counted in the record file, not believed. Raises
        EnvironmentBroken when that file is damaged.
        """
        code: int | None = None
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            code = self._child.wait(timeout_s)
            if code is None:
                self._child.signal(signal.SIGKILL)
                code = self._child.wait(5.0)
        said = json.loads(self._files.summary.read_text()) if self._files.summary.exists() else {}
        return LoadSummary(
            scheduled=said.get("scheduled", 0),
            sent=said.get("sent", 0),
            recorded=records.count_begun(self._files.operations),
            lag_p99_ms=said.get("lag_p99_ms", 0.0),
            exit_code=code,
        )

    def _last_log(self, lines: int = 15) -> str:
        if not self._files.log.exists():
            return "(it wrote no log)"
        return "\n".join(self._files.log.read_text(errors="replace").splitlines()[-lines:])


def child_env() -> dict[str, str]:
    """A plain environment: nothing that Locust, gevent or Python would read settings from."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env["PYTHONPATH"] = str(Path(harness.__file__).resolve().parent.parent)
    env["PYTHONUNBUFFERED"] = "1"
    # The entry is an address, not a name: nothing to look up, so no thread to wake for each connection.
    env["GEVENT_RESOLVER"] = "block"
    return env
