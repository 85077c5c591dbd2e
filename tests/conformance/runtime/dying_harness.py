"""A harness that says how far it has come and then waits to be killed: ``RUN_ID PHASE``."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from harness.target.folder import load_target
from harness.target.process import ProcessRuntime
from harness.target.supervisor import Supervisor

TARGET = Path(__file__).parent / "target"


def reached(phase: str, wanted: str) -> None:
    """At the wanted phase: say so, and go no further."""
    if phase == wanted:
        print(phase, flush=True)
        wait()


def wait() -> NoReturn:
    while True:
        time.sleep(60)


def main() -> None:
    run_id, wanted = sys.argv[1:]
    supervisor = Supervisor.start(run_id)
    reached("supervised", wanted)
    runtime = ProcessRuntime(
        load_target(TARGET), run_id=run_id, scratch=supervisor.scratch, supervisor=supervisor, seed=1
    )
    runtime.prepare()
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
