"""The load generator's process: ``python -m harness.load.child CONFIG.json``.

Locust comes first, before anything that imports ssl; that is why it is a process of its own. It arms
(locustfile read, users started, target reached), waits for the word to go, sends until told to stop,
until the plan's end, or until its parent is gone.
"""

# isort: off
import locust  # noqa: F401  # patches the process: nothing may be imported before it

# isort: on
import gc
import importlib.util
import inspect
import logging
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import gevent
import gevent.socket

from harness.load.config import (
    EXIT_LOCUSTFILE,
    EXIT_NOT_CONNECTED,
    EXIT_ORPHANED,
    EXIT_RECORDER,
    ChildConfig,
    Folder,
)
from harness.load.engine import Clock, Engine
from harness.load.recorder import Recorder
from harness.load.workload import Workload

OPEN_FILES = 8192  # each user has a connection
# A full collection stops every greenlet: 0.2 s with a few hundred operations in flight, seen just when
# the target is at its worst. The young generations go on as usual, the old one is seldom looked at.
GC_THRESHOLDS = (2000, 10, 1000)
PRIORITY = -10  # nice value: far above what is judged, far below the kernel's own
POLL_S = 0.01
WATCH_S = 0.5
log = logging.getLogger(__name__)


class Refused(Exception):
    """Why the child cannot begin, with its exit code."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def die(exit_code: int, message: str) -> NoReturn:
    """End at once, from any thread: what goes on after this could only be wrong."""
    os.write(2, f"load: {message}\n".encode())
    os._exit(exit_code)


def load_workload(locustfile: Path, python_path: tuple[str, ...], kinds: set[str]) -> type[Workload]:
    """The one Workload class of a locustfile. Raises Refused when it cannot serve the mix."""
    sys.path.extend(python_path)  # after everything else: a target shadows nothing of ours
    spec = importlib.util.spec_from_file_location("ledgerquake_locustfile", locustfile)
    if spec is None or spec.loader is None:
        raise Refused(EXIT_LOCUSTFILE, f"{locustfile} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        found = [
            value
            for value in vars(module).values()
            if inspect.isclass(value) and issubclass(value, Workload) and not value.abstract
        ]
        if len(found) != 1:
            raise ValueError(f"it declares {len(found)} classes derived from Workload, not one")
        missing = kinds - set(found[0].operations())
        if missing:
            raise ValueError(f"{found[0].__name__} has no operation {sorted(missing)}, which the mix names")
    except Exception as error:
        raise Refused(EXIT_LOCUSTFILE, f"{locustfile} cannot be used\n{traceback.format_exc()}") from error
    return found[0]


def wait_for(what: str, within_s: float, test: Callable[[], bool]) -> None:
    """Poll until ``test`` is true. Raises Refused when it does not come to be."""
    deadline = time.monotonic() + within_s
    while not test():
        if time.monotonic() > deadline:
            raise Refused(EXIT_NOT_CONNECTED, f"waited {within_s:g} s for {what}")
        gevent.sleep(POLL_S)


def can_connect(host_url: str) -> bool:
    parts = urlsplit(host_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        gevent.socket.create_connection((parts.hostname, port), timeout=1).close()
    except OSError:
        return False
    return True


def watch_parent(parent: int, engine: Engine) -> None:
    while os.getppid() == parent:
        gevent.sleep(WATCH_S)
    engine.stop_requested.set("orphaned")


def raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def come_first() -> None:
    """Ask for a higher priority: a generator that waits for a processor measures itself.

    It needs a right that ordinary users seldom have; without it the lag still tells on a late start.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        log.info("no right to a higher priority; the lag will tell whether that mattered")


def run(config: ChildConfig) -> int:
    """Arm, go, stop. Returns the exit code; raises Refused when it cannot begin."""
    folder, parent = Folder(Path(config.folder)), os.getppid()
    raise_open_files()
    come_first()
    workload = load_workload(Path(config.locustfile), config.python_path, set(config.plan.mix))
    clock = Clock()
    engine = Engine(
        config.plan,
        workload,
        config.host_url,
        config.entries,
        config.max_users,
        clock,
        on_bug=lambda message: die(EXIT_LOCUSTFILE, message),
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the driver's to handle
    gevent.signal_handler(signal.SIGTERM, engine.stop_requested.set, "told to stop")
    watcher = gevent.spawn(watch_parent, parent, engine)
    for url in dict.fromkeys((config.host_url, *config.entries.values())):
        wait_for(f"{url} to accept", config.connect_within_s, partial(can_connect, url))
    engine.arm()
    recorder = Recorder(
        folder,
        engine.tally,
        clock.now_ns,
        on_failure=lambda error: die(EXIT_RECORDER, f"the recorder failed: {error!r}"),
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    folder.armed.write_text(str(os.getpid()))
    wait_for(
        "the word to go", config.go_within_s, lambda: folder.go.exists() or engine.stop_requested.ready()
    )
    t0_ns = int(folder.go.read_text()) if folder.go.exists() else clock.now_ns()
    recorder.start(t0_ns)
    reason = engine.run(t0_ns, recorder)
    recorder.close(reason)
    wait_for("the recorder's last flush", 10.0, lambda: recorder.closed)
    watcher.kill()
    return EXIT_ORPHANED if reason == "orphaned" else 0


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    config = ChildConfig.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        return run(config)
    except Refused as refused:
        os.write(2, f"load: {refused}\n".encode())
        return refused.exit_code


if __name__ == "__main__":
    sys.exit(main())
