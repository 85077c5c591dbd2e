"""The load room end to end: the driver, the real Locust child, a small server that misbehaves on order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_server import Reply, Request, TinyServer
from harness.errors import EnvironmentBroken, NotReady
from harness.load import records
from harness.load.config import EXIT_LOCUSTFILE, EXIT_RECORDER, Folder
from harness.load.driver import LoadDriver
from harness.load.schedule import arrivals
from harness.plan import LoadPlan, RateSegment
from harness.spawn import LocalChild, LocalSpawner

REPO = Path(__file__).resolve().parents[2]
SIMPLE = """
from harness.load.workload import Op, Workload, operation

class Simple(Workload):
    @operation("write")
    def write(self, op: Op) -> None:
        op.set_amount(op.amount_minor)
        op.request("POST", "/write", json={"amount": op.amount_minor}, headers={"Idempotency-Key": op.key})
"""
Make = Callable[..., LoadDriver]


def plan_of(rate: float, **changes: Any) -> LoadPlan:
    segments = (RateSegment(at_s=0, rate_per_s=rate),)
    base = {"seed": 3, "arrivals": "constant", "segments": segments, "mix": {"write": 1}, "subscribers": 50}
    return LoadPlan.model_validate(base | {"max_duration_s": 30} | changes)


class LimitedSpawner(LocalSpawner):
    """Every file the child writes may grow to 8 KiB: what a disk that fills up does to it."""

    def spawn(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> LocalChild:
        limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *argv]
        return super().spawn(name, limited, env=env, cwd=cwd, log=log)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes drivers; whatever they started is gone at the end."""
    spawners: list[LocalSpawner] = []

    def build(
        url: str,
        plan: LoadPlan,
        locustfile: str | Path = SIMPLE,
        spawner: LocalSpawner | None = None,
        **changes: Any,
    ) -> LoadDriver:
        spawners.append(spawner or LocalSpawner())
        if isinstance(locustfile, str):
            (tmp_path / "locustfile.py").write_text(locustfile)
            locustfile = tmp_path / "locustfile.py"
        return LoadDriver(
            plan,
            host_url=url,
            locustfile=locustfile,
            spawner=spawners[-1],
            folder=tmp_path / "run",
            **changes,
        )

    yield build
    for spawner in spawners:
        spawner.close()


def rows_of(driver: LoadDriver) -> list[dict[str, Any]]:
    return records.read(driver.operations_file).to_pylist()


def latency_ms(row: dict[str, Any]) -> float:
    return (row["completed_ns"] - row["intended_ns"]) / 1e6


def wait_until(test: Callable[[], Any], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not test():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Stalling:
    """Answers at once, but between ``begin`` and ``end`` (epoch s) only at ``end``."""

    begin, end = float("inf"), 0.0

    def __call__(self, request: Request) -> Reply:
        now = time.time()
        return Reply(201, delay_s=self.end - now if self.begin <= now < self.end else 0.0)


def test_a_stall_neither_thins_the_load_nor_hides(make: Make) -> None:
    """Open loop: a server that stalls gets every arrival all the same, and the percentiles tell."""
    stalling, plan = Stalling(), plan_of(100, max_duration_s=4)
    with TinyServer(stalling) as server:
        driver = make(server.url, plan)
        t0_ns = driver.start()
        stalling.begin, stalling.end = t0_ns / 1e9 + 1, t0_ns / 1e9 + 2.8
        wait_until(lambda: not driver.alive(), 10)
        summary = driver.stop()
    expected = list(arrivals(plan))
    assert (summary.scheduled, summary.sent, summary.recorded) == (len(expected),) * 3
    assert summary.exit_code == 0
    rows = rows_of(driver)
    assert [(r["seq"], r["key"], r["amount_minor"], r["intended_ns"]) for r in rows] == [
        (a.seq, a.key, a.amount_minor, t0_ns + a.offset_ns) for a in expected
    ]
    assert {r["outcome"] for r in rows} == {"ok"} and {r["attempts"] for r in rows} == {1}
    slow = sum(latency_ms(r) > 800 for r in rows)
    assert 90 <= slow <= 125, "everything due in the first second of the stall waited for its end"
    live = driver.live()
    assert [second.intended for second in live[:4]] == pytest.approx([100] * 4, abs=1)
    over_ns = live[-1].at_ns + 10**9
    assert sum(second.finished for second in live) == sum(r["completed_ns"] < over_ns for r in rows) > 350
    assert (live[2].p99_ms or 0) > 1500 and live[1].in_flight > 60
    assert summary.lag_p99_ms < 500, "waiting for answers is no lag of the generator"


def test_at_the_bound_of_the_pool_arrivals_wait_and_none_is_dropped(make: Make) -> None:
    together, most, lock = Counter[str](), Counter[str](), threading.Lock()

    def slow(request: Request) -> Reply:
        with lock:
            together["now"] += 1
            most["now"] = max(most["now"], together["now"])
            threading.Timer(0.2, lambda: together.subtract(["now"])).start()
        return Reply(201, delay_s=0.2)

    with TinyServer(slow) as server:  # 4 users at 0.2 s can do 20/s
        driver = make(server.url, plan_of(30, max_duration_s=2), max_users=4)
        driver.start()
        wait_until(lambda: not driver.alive(), 10)
        summary = driver.stop()
    assert summary.scheduled == summary.sent == summary.recorded >= 59
    assert most["now"] <= 5  # the timers that count are not exact
    assert latency_ms(rows_of(driver)[-1]) > 600, "counted from the intended time"
    assert json.loads(Folder(driver.log.parent).summary.read_text())["waited"] > 30
    assert rows_of(driver)[-1]["queued_ns"] > 400e6 and summary.lag_p99_ms < 100, "not the generator's doing"


def test_what_found_no_user_before_the_end_has_a_row_too(make: Make) -> None:
    """Two users, each caught for its whole deadline: the rest of what was due never begins."""
    plan = plan_of(20, max_duration_s=1)
    with TinyServer(lambda request: Reply(delay_s=60)) as server:
        driver = make(server.url, plan, SIMPLE.replace("json={", "timeout_s=60, json={"), max_users=2)
        t0_ns = driver.start()
        wait_until(lambda: not driver.alive(), 15)
        summary = driver.stop()
    expected = list(arrivals(plan))
    assert summary.scheduled == len(expected) > summary.sent == summary.recorded >= 2
    rows = rows_of(driver)
    assert [(r["seq"], r["key"], r["intended_ns"]) for r in rows] == [
        (a.seq, a.key, t0_ns + a.offset_ns) for a in expected
    ]
    unsent = [r for r in rows if r["invoked_ns"] is None]
    assert len(unsent) == summary.scheduled - summary.sent
    assert {(r["outcome"], r["attempts"], r["status"], r["amount_minor"]) for r in unsent} == {
        ("unknown", 0, None, None)
    }
    assert all(r["error"].startswith("not sent") and latency_ms(r) > 4000 for r in unsent)
    assert all(0 < r["queued_ns"] <= latency_ms(r) * 1e6 for r in unsent)
    assert summary.lag_p99_ms < 500, "the target kept the users, not the generator"


def lost_by_kill_9_s(make: Make) -> float:
    """From the first operation that has no row to the kill."""
    plan = plan_of(200)
    with TinyServer() as server:
        driver = make(server.url, plan)
        t0_ns = driver.start()
        time.sleep(t0_ns / 1e9 + 2.5 - time.time())
        os.kill(int(Folder(driver.log.parent).armed.read_text()), signal.SIGKILL)
        killed_ns = time.time_ns()
        wait_until(lambda: not driver.alive())
        summary = driver.stop()
    assert summary.exit_code == -signal.SIGKILL
    seqs = {row["seq"] for row in rows_of(driver)}
    first_lost = next(arrival for arrival in arrivals(plan) if arrival.seq not in seqs)
    return (killed_ns - t0_ns - first_lost.offset_ns) / 1e9


def test_kill_9_leaves_everything_but_the_last_half_second(make: Make) -> None:
    """On a busy machine up to two seconds, but not each time."""
    lost_s: list[float] = []
    while len(lost_s) < 3 and min(lost_s, default=9) >= 0.5:
        lost_s.append(lost_by_kill_9_s(make))
    assert min(lost_s) < 0.5 and max(lost_s) < 2, lost_s


def test_stop_lets_operations_end_and_records_the_rest_as_unknown(make: Make) -> None:
    """Some answers take 0.6 s, some never come; some operations dawdle after an answer they had."""
    hanging = """
import time
from harness.load.workload import Op, Workload, operation

class Hanging(Workload):
    @operation("write")
    def write(self, op: Op) -> None:
        path = ("/later", "/never", "/refused")[op.seq % 3]
        op.request("POST", path, timeout_s=60, attempts=1)
        if path == "/refused":
            time.sleep(60)
"""
    replies = {"/later": Reply(delay_s=0.6), "/never": Reply(delay_s=60), "/refused": Reply(422)}
    with TinyServer(lambda request: replies[request.path]) as server:
        driver = make(server.url, plan_of(50), hanging)
        t0_ns = driver.start()
        time.sleep(t0_ns / 1e9 + 1 - time.time())
        stopped = time.monotonic()
        summary = driver.stop()
    assert 3.5 < time.monotonic() - stopped < 6, "their deadline is 4 s"
    assert summary.exit_code == 0
    assert summary.scheduled == summary.sent == summary.recorded >= 45
    rows = rows_of(driver)
    by_path = [{(r["outcome"], r["error"]) for r in rows if r["seq"] % 3 == path} for path in range(3)]
    assert by_path == [
        {("ok", None)},
        {("unknown", "timeout")},
        {("unknown", "status 422; still under way when load ended")},
    ]
    assert driver.stop() == summary, "stopping twice says the same"


def test_a_recorder_that_cannot_write_ends_the_run(make: Make) -> None:
    with TinyServer() as server:
        driver = make(server.url, plan_of(300), spawner=LimitedSpawner())
        driver.start()
        wait_until(lambda: not driver.alive())
        summary = driver.stop()
    assert summary.exit_code == EXIT_RECORDER
    assert "recorder failed" in driver.log.read_text()
    assert 0 < summary.recorded < 100, "8 KiB of rows are whole"


MISBEHAVING = """
from harness.load.workload import Op, Workload, operation

def declare(kind, method="POST"):
    @operation(kind)
    def perform(self, op: Op) -> None:
        op.request(method, f"/{kind}", headers={"Idempotency-Key": op.key}, timeout_s=0.5)
    return perform

class Misbehaving(Workload):
    ok, refused, busy, sick = declare("ok"), declare("refused"), declare("busy"), declare("sick")
    conflict, closes, half = declare("conflict"), declare("closes"), declare("half")
    half_error, hangs, closes_get = declare("half_error"), declare("hangs"), declare("closes_get", "GET")
    heals = declare("heals")

    @operation("nonsense")
    def nonsense(self, op: Op) -> None:
        op.set_ref(op.request("POST", "/nonsense").json["payment_id"])
"""
HALF = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
REPLIES = {
    "ok": Reply(201),
    "refused": Reply(422),
    "busy": Reply(503, headers=(("Retry-After", "1"),)),
    "sick": Reply(503),
    "conflict": Reply(409),
    "closes": Reply(raw=b""),
    "closes_get": Reply(raw=b""),
    "half": Reply(raw=HALF % 200),
    "half_error": Reply(raw=HALF % 422),
    "hangs": Reply(delay_s=20),
    "nonsense": Reply(201, json={"no": "id"}),
}
EXPECTED = {  # kind: outcome, attempts, status
    "ok": ("ok", 1, 201),
    "refused": ("fail", 1, 422),
    "busy": ("fail", 1, 503),
    "sick": ("unknown", 2, 503),
    "conflict": ("unknown", 2, 409),
    "closes": ("unknown", 2, None),
    "closes_get": ("unknown", 2, None),
    "half": ("unknown", 2, None),
    "half_error": ("unknown", 2, None),
    "hangs": ("unknown", 2, None),
    "heals": ("ok", 2, 200),
    "nonsense": ("unknown", 1, 201),
}


def test_each_kind_of_answer_gives_its_outcome_and_every_attempt_is_counted(make: Make) -> None:
    seen: dict[str, list[str]] = defaultdict(list)

    def reply(request: Request) -> Reply:
        kind = request.path.strip("/")
        key = request.headers.get("idempotency-key", "")
        seen[kind].append(key)
        return REPLIES.get(kind) or Reply(500 if seen[kind].count(key) == 1 else 200)

    plan = plan_of(80, max_duration_s=1.5, mix=dict.fromkeys(EXPECTED, 1.0))
    with TinyServer(reply) as server:
        driver = make(server.url, plan, MISBEHAVING)
        driver.start()
        wait_until(lambda: not driver.alive())
        summary = driver.stop()
    assert summary.sent == summary.recorded == len(list(arrivals(plan)))
    by_kind = defaultdict(list)
    for row in rows_of(driver):
        by_kind[row["kind"]].append(row)
    found = {k: {(r["outcome"], r["attempts"], r["status"]) for r in rows} for k, rows in by_kind.items()}
    assert found == {kind: {expected} for kind, expected in EXPECTED.items()}
    for kind, rows in by_kind.items():
        assert len(seen[kind]) == sum(r["attempts"] for r in rows), f"{kind}: attempts that nobody counted"
        if kind != "nonsense":
            assert Counter(seen[kind]) == Counter({r["key"]: r["attempts"] for r in rows})
    took_ms = [(r["completed_ns"] - r["invoked_ns"]) / 1e6 for r in by_kind["conflict"]]
    assert min(took_ms) >= 100, "the same request is being worked on, and was not waited for"
    assert {r["error"] for r in by_kind["hangs"]} == {"timeout; timeout"}
    assert by_kind["nonsense"][0]["error"] == "locustfile: KeyError: 'payment_id'"
    assert "Locust counted" in driver.log.read_text()


@pytest.mark.parametrize(
    ("locustfile", "says"),
    [
        ("x = 1", "declares 0 classes"),
        ("import nowhere_to_be_found", "nowhere_to_be_found"),
        (SIMPLE.replace('"write"', '"other"'), "has no operation ['write']"),
    ],
)
def test_a_locustfile_that_cannot_be_used_is_told_before_the_start(
    make: Make, locustfile: str, says: str
) -> None:
    driver = make("http://127.0.0.1:9", plan_of(1), locustfile)
    with pytest.raises(NotReady, match=r"ended with 65") as caught:
        driver.arm()
    assert says in str(caught.value)


def test_an_operation_that_fails_before_it_sends_ends_the_run(make: Make) -> None:
    with TinyServer() as server:
        driver = make(server.url, plan_of(20), SIMPLE.replace("op.set_amount(op.amount_minor)", "1 / 0"))
        driver.start()
        wait_until(lambda: not driver.alive())
    assert driver.stop().exit_code == EXIT_LOCUSTFILE
    assert "ZeroDivisionError" in driver.log.read_text()


TWO_WAYS = """
from harness.load.workload import Op, Workload, operation

class TwoWays(Workload):
    @operation("write")
    def write(self, op: Op) -> None:
        op.request("POST", "/write", json={}, headers={"Idempotency-Key": op.key})

    @operation("read")
    def read(self, op: Op) -> None:
        try:
            if op.ask("GET", "/status", via="side").status == 200:
                op.request("GET", f"/read?key={op.key}", via="side")
        except Exception:
            pass
"""


def test_each_way_in_gets_its_own_requests_over_its_own_connections(make: Make) -> None:
    """The side door breaks off some answers: the connections to the main one are kept all the same."""
    came: dict[str, list[Request]] = defaultdict(list)

    def door(name: str) -> Callable[[Request], Reply]:
        def answer(request: Request) -> Reply:
            came[name].append(request)
            breaks = request.path.startswith("/read") and request.path[-1] in "01234567"
            return Reply(raw=b"HTTP/1.1 200 OK") if breaks else Reply()

        return answer

    plan = plan_of(40, mix={"write": 1, "read": 1}, max_duration_s=2)
    with TinyServer(door("main")) as main, TinyServer(door("side")) as side:
        driver = make(main.url, plan, TWO_WAYS, entries={"side": side.url}, max_users=4)
        driver.start()
        wait_until(lambda: not driver.alive(), 10)
        assert driver.stop().exit_code == 0
    rows = {row["key"]: row for row in rows_of(driver)}
    writes = [row for row in rows.values() if row["kind"] == "write"]
    assert {request.path for request in came["main"]} == {"/write"}
    assert len(came["main"]) == len(writes) > 20
    assert {row["outcome"] for row in writes} == {"ok"} and {row["attempts"] for row in writes} == {1}
    asked = [request.path for request in came["side"] if request.path == "/status"]
    reads = [row for row in rows.values() if row["kind"] == "read"]
    assert len(asked) == len(reads) > 20
    assert {request.headers["host"] for request in came["side"]} == {side.url.removeprefix("http://")}
    broken_off = sum(row["attempts"] > 1 for row in reads)
    assert broken_off > 10
    assert side.connections > broken_off
    assert main.connections <= 5, "that of the first try, and one that is kept for each user"


def test_an_entry_that_the_target_has_not_ends_the_run_at_once(make: Make) -> None:
    """The name is wrong from the first request on, and the locustfile catches what it can."""
    with TinyServer() as main, TinyServer() as side:
        wrong = TWO_WAYS.replace('"/status", via="side"', '"/status", via="sied"')
        driver = make(main.url, plan_of(50, mix={"read": 1}), wrong, entries={"side": side.url})
        driver.start()
        wait_until(lambda: not driver.alive())
        assert driver.stop().exit_code == EXIT_LOCUSTFILE
    assert "operation 'read': unknown entry 'sied': did you mean 'side'?" in driver.log.read_text()


def test_a_way_in_where_nobody_listens_is_told_before_the_start(make: Make) -> None:
    with TinyServer() as main:
        driver = make(main.url, plan_of(50), entries={"side": "http://127.0.0.1:1"})
        driver._config = driver._config.model_copy(update={"connect_within_s": 0.2})
        with pytest.raises(NotReady, match=r"waited 0\.2 s for http://127\.0\.0\.1:1 to accept"):
            driver.arm()


def test_the_start_must_lie_ahead(make: Make) -> None:
    with TinyServer() as server:
        driver = make(server.url, plan_of(20))
        driver.arm()
        with pytest.raises(EnvironmentBroken, match="load was to start"):
            driver.start(time.time_ns())
        assert driver.stop().exit_code == 0


def test_the_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """Without the parent-death signal of the supervisor, too."""
    (tmp_path / "locustfile.py").write_text(SIMPLE)
    code = """
import sys, time
from pathlib import Path
from harness.load.driver import LoadDriver
from harness.plan import LoadPlan
from harness.spawn import LocalSpawner
plan = LoadPlan.model_validate_json(sys.argv[1])
folder = Path(sys.argv[3])
LoadDriver(plan, host_url=sys.argv[2], locustfile=folder / "locustfile.py", spawner=LocalSpawner(),
           folder=folder).start()
print("started", flush=True)
time.sleep(60)
"""
    with TinyServer() as server:
        argv = [sys.executable, "-c", code, plan_of(50).model_dump_json(), server.url, str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=REPO) as parent:
            assert parent.stdout is not None and parent.stdout.readline() == b"started\n"
            child = int((tmp_path / "armed").read_text())
            time.sleep(1)
            parent.kill()
        wait_until(lambda: not is_running(child), 5)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["finished"] == "orphaned" and summary["sent"] == summary["recorded"] > 10


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
