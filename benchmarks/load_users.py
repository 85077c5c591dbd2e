"""The measured process of ``benchmarks.load``: ten Locust users in a closed loop against a URL.

``python -m benchmarks.load_users MODE URL SECONDS FOLDER`` prints one line of JSON. Modes: ``bare`` is
Locust alone; ``recorded`` the same requests and a recorded row for each; ``whole`` a Workload that
performs operations: judged, recorded, with time-outs.
"""

# isort: off
import locust  # first: it patches the process

# isort: on
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment

from harness.load.config import Folder
from harness.load.recorder import Recorder, Tally
from harness.load.schedule import Arrival
from harness.load.workload import Op, Workload, operation

USERS = 10
BODY = {"subscriber": 7, "amount_minor": 500}
numbers = itertools.count(1)


class Bare(locust.FastHttpUser):
    concurrency = 1
    insecure = False

    @locust.task
    def one(self) -> None:
        headers = {"Idempotency-Key": f"{next(numbers):032x}", "Content-Type": "application/json"}
        with self.client.request(
            "POST", "/topups", name="topup", data=json.dumps(BODY), headers=headers, catch_response=True
        ):
            pass


class Recorded(Bare):
    recorder: Recorder

    @locust.task
    def one(self) -> None:
        key, intended_ns = f"{next(numbers):032x}", time.time_ns()
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        with self.client.request(
            "POST", "/topups", name="topup", data=json.dumps(BODY), headers=headers, catch_response=True
        ) as response:
            status = response.status_code
        times = (intended_ns, intended_ns, time.time_ns())
        self.recorder.append((1, key, "topup", key, 7, 500, *times, 1, "ok", status, None, None, None, None))


class Whole(Workload):
    @operation("topup")
    def topup(self, op: Op) -> None:
        op.set_amount(500)
        op.request("POST", "/topups", json=BODY, headers={"Idempotency-Key": op.key})


class Feed:
    """Hands out operations without end, all due now."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def serve(self, user: Any) -> None:
        seq, now_ns = next(numbers), time.time_ns()
        op = Op(user, Arrival(seq, 0, "topup", 7, f"{seq:032x}", 500, 1), now_ns, now_ns)
        user.topup(op)
        self._recorder.append(op.row(time.time_ns()))


def main() -> None:
    mode, url, seconds, folder = sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4])
    recorder = Recorder(Folder(folder), Tally(), time.time_ns, on_failure=lambda error: os._exit(1))
    recorder.start(time.time_ns())
    Recorded.recorder, Whole.dispatcher = recorder, Feed(recorder)
    user_class = {"bare": Bare, "recorded": Recorded, "whole": Whole}[mode]
    environment = Environment(user_classes=[user_class], host=url)
    runner = environment.create_local_runner()
    runner.start(USERS, spawn_rate=USERS)
    gevent.sleep(0.5)
    total = runner.stats.total
    requests, cpu_s, began = total.num_requests, time.process_time(), time.monotonic()
    gevent.sleep(seconds)
    requests, cpu_s = total.num_requests - requests, time.process_time() - cpu_s
    took_s = time.monotonic() - began
    print(
        json.dumps(
            {"per_s": requests / took_s, "cpu_us": cpu_s / requests * 1e6, "failed": total.num_failures}
        )
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
