"""A harness that says how far it has come and then waits to be killed: ``RUNTIME RUN_ID PHASE``."""

from __future__ import annotations

import sys
import threading
import time
from typing import NoReturn

from harness.run.ground import Groundwork
from harness.target.folder import load_target
from harness.target.supervisor import Supervisor
from tests.conformance.runtime.conftest import RUNTIMES, TARGET


def reached(phase: str, wanted: str) -> None:
    """At the wanted phase: say so, and go no further."""
    if phase == wanted:
        print(phase, flush=True)
        wait()


def wait() -> NoReturn:
    while True:
        time.sleep(60)


def main() -> None:
    kind, run_id, wanted = sys.argv[1:]
    ground = RUNTIMES[kind]()
    supervisor = Supervisor.start(run_id)
    reached("supervised", wanted)
    if wanted == "preparing":
        threading.Timer(0.25, lambda: print("preparing", flush=True)).start()
    work = Groundwork(load_target(TARGET), supervisor, 1, None, lambda line: None, lambda undo: None)
    runtime = ground.break_ground(work).runtime
    if wanted == "preparing":
        wait()
    reached("prepared", wanted)
    if wanted == "deploying":
        threading.Timer(0.15, lambda: print("deploying", flush=True)).start()
    runtime.deploy()
    if wanted == "deploying":
        wait()
    runtime.pause("front")
    runtime.kill("back")
    reached("deployed", wanted)  # one service runs, one is stopped, one is dead
    if wanted == "tearing down":
        print("tearing down", flush=True)
        runtime.teardown()
        supervisor.close()
    wait()


if __name__ == "__main__":
    main()
