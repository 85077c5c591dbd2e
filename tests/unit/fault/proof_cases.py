"""For each kind of fault: what is seen when all is well, and each way to damage one observation."""

from __future__ import annotations

from typing import Any

from harness.fault.base import Fault
from harness.fault.configuration import BadConfig
from harness.fault.lifecycle import Crash, Pause, Restart, RollingRestart
from harness.fault.load import Surge
from harness.fault.network import Partition
from harness.fault.operations import Lockdown, Maintenance
from harness.fault.registry import FAULTS
from harness.fault.resource import Cpu, Memory
from harness.fault.unplug import Unplug

SILENT = {"proved": True, "text": "silent"}
ANSWERED = {"proved": False, "text": "a canary was answered"}
USED, IDLE, AROUND = ({"proxy": 1, "bypass": 0}, {"proxy": 0, "bypass": 0}, {"proxy": 1, "bypass": 1})
LINK_GOOD = {  # a calls either of two nodes, and x one of them
    "touched": ("a->b", "a->s", "x->b"),
    "before_ms": {"a->b": 0.4, "a->s": 0.3, "x->b": 0.3},
    "through_proxy": {"a->b": USED, "a->s": IDLE, "x->b": USED},
    "during": {"a->b": SILENT, "a->s": SILENT, "x->b": SILENT},
    "neighbours": {"a->c": True, "a->d": False},
    "at_end": {"a->b": True, "a->s": True, "x->b": True},
}
CRASH_GOOD = {
    "status_before": "running",
    "pid_before": 10,
    "incarnation_before": 1,
    "gone": True,
    "stayed_down": True,
    "status_at_end": "dead",
    "incarnation_at_end": 1,
    "status_after": "running",
    "pid_after": 11,
    "incarnation_after": 2,
}
REFUSED = {"status": 503, "retry_after": "5"}


def mode_good(mode: str) -> dict[str, Any]:
    closed = ("at_once", "during", "at_end")
    return {
        "epoch": 7,
        "mode_before": {"mode": "normal", "epoch": 6},
        "canary_before": {"status": 400},
        **{f"mode_{when}": {"mode": mode, "epoch": 7} for when in closed},
        **{f"canary_{when}": REFUSED for when in closed},
        "mode_after": {"mode": "normal", "epoch": 8},
        "canary_after": {"status": 400},
    }


MODE_DAMAGES: list[dict[str, Any]] = [
    {"epoch": None},
    {"epoch": 6},  # nothing was set: that one was in force before
    *({f"mode_{when}": {"mode": None, "epoch": None}} for when in ("before", "during", "at_end", "after")),
    *({f"canary_{when}": {"status": None}} for when in ("before", "during", "at_end", "after")),
    {"mode_before": {"mode": "maintenance", "epoch": 6}},
    {"canary_before": REFUSED},
    *({f"canary_{when}": {"status": 400}} for when in ("at_once", "during", "at_end")),
    *({f"canary_{when}": {"status": 503, "retry_after": None}} for when in ("at_once", "during", "at_end")),
    *({f"mode_{when}": {"mode": "normal", "epoch": 7}} for when in ("at_once", "during", "at_end")),
    {"mode_at_end": {"mode": "normal", "epoch": 8}},  # lifted before its time
    {"mode_during": {"mode": "lockdown", "epoch": 8}, "mode_at_end": {"mode": "maintenance", "epoch": 9}},
    {"mode_after": {"mode": "normal", "epoch": 7}},
    {"mode_after": {"mode": "normal", "epoch": 6}},
    {"mode_after": {"mode": "lockdown", "epoch": 8}},
    {"canary_after": REFUSED},
]
PAUSE_GOOD = {
    "status_before": "running",
    "incarnation_before": 1,
    "can_be_asked": True,
    "answered_before": True,
    "stopped": True,
    "silent": True,
    "status_at_end": "paused",
    "incarnation_at_end": 1,
    "stopped_at_end": True,
    "pid_before": 10,
    "pid_after": 10,
}
PAUSE_UNHEARD = {key: PAUSE_GOOD[key] for key in PAUSE_GOOD if key not in ("answered_before", "silent")}
PAUSE_UNHEARD["can_be_asked"] = False
UNPLUGGED_GOOD: dict[str, Any] = {
    "can_be_asked": True,
    "answered_before": True,
    "silent": True,
    "answers_after": True,
    **{f"status_{when}": "running" for when in ("before", "during", "at_end", "after")},
    **{f"life_{when}": [1, 10] for when in ("before", "during", "at_end", "after")},
    "interfaces_before": 2,
    "interfaces_during": 0,
    "interfaces_at_end": 0,
    "interfaces_after": 2,
}
UNPLUGGED_DAMAGES: list[dict[str, Any]] = [
    {"status_before": "paused"},
    {"interfaces_before": 0, "interfaces_after": 0},
    {"can_be_asked": None},
    {"answered_before": False},
    {"interfaces_during": 1},
    {"interfaces_during": None},
    {"status_during": "dead"},
    {"life_during": [2, 11]},
    {"silent": False},
    {"status_at_end": "dead"},
    {"life_at_end": [2, 11]},
    {"interfaces_at_end": 2},  # plugged in before its time
    {"status_after": "dead"},
    {"life_after": [2, 11]},
    {"interfaces_after": 1},
    {"answers_after": False},
]
UNPLUGGED_UNHEARD = {
    key: UNPLUGGED_GOOD[key]
    for key in UNPLUGGED_GOOD
    if key not in ("answered_before", "silent", "answers_after")
} | {"can_be_asked": False}
LIMIT_GOOD = {
    "status_before": "running",
    "incarnation_before": 1,
    "pid_before": 10,
    "status_at_end": "running",
    "incarnation_at_end": 1,
    "status_after": "running",
    "incarnation_after": 1,
    "pid_after": 10,
    "limit_before": None,
    "limit_after": None,
}
LIMIT_DAMAGES: list[dict[str, Any]] = [
    {"status_before": "dead"},
    {"limit_during": None},
    {"limit_during": 1e9},
    {"limit_at_end": None},
    {"status_at_end": "dead"},
    {"incarnation_at_end": 2},
    {"status_after": "dead"},
    {"incarnation_after": 2},
    {"pid_after": 11},
    {"limit_after": 0.5},
]
CPU_GOOD = {
    **LIMIT_GOOD,
    "limit_during": 0.1,
    "limit_at_end": 0.1,
    "elapsed_s": 10.0,
    "used_s": 1.05,
    "periods": 100,
    "throttled": 80,
}
MEMORY_GOOD = {
    **LIMIT_GOOD,
    "limit_during": 64 * 2**20,
    "limit_at_end": 64 * 2**20,
    "killed": False,
    "reached": 7,
    "killed_in_it": 0,
    "most_used": 63 * 2**20,
}
KILLED_GOOD = {key: value for key, value in MEMORY_GOOD.items() if key != "limit_at_end"} | {
    "killed": True,
    "status_at_end": "dead",
    "incarnation_after": 2,
    "pid_after": 11,
}
RESTART_GOOD = {**CRASH_GOOD, "exit_code": 0, "drain_s": 0.3, "status_at_end": "stopped"}
RESTART_DAMAGES: list[dict[str, Any]] = [
    {"status_before": "dead"},
    {"gone": False},
    {"exit_code": None},
    {"exit_code": -9, "drain_s": 0.3},  # killed long before its grace was over: not by us
    {"status_at_end": "running", "incarnation_at_end": 2},
    {"pid_after": 10},
    {"status_after": "dead"},
]
CONFIG_GOOD = {
    **RESTART_GOOD,
    "can_be_asked": True,
    "ready_before": True,
    "differ": True,
    "pid_during": 20,
    "incarnation_during": 2,
    "holds_during": True,
    "ready_during": False,
    "status_at_end": "running",
    "incarnation_at_end": 2,
    "holds_at_end": True,
    "lasted_s": 7.9,
    "pid_after": 30,
    "incarnation_after": 3,
    "holds_after": True,
    "ready_in_s": 1.1,
}
CONFIG_DAMAGES: list[dict[str, Any]] = [
    {"status_before": "dead"},
    {"gone": False},
    {"exit_code": None},
    {"exit_code": -9, "drain_s": 0.3},
    {"pid_during": 10},
    {"pid_during": None},
    {"incarnation_during": 1},
    {"differ": False},
    {"holds_during": False},
    {"status_at_end": "dead"},
    {"incarnation_at_end": 3},  # started anew before its time
    {"holds_at_end": False},
    {"status_after": "dead"},
    {"pid_after": 20},
    {"incarnation_after": 2},
    {"holds_after": False},
    {"ready_in_s": None},
]
CONFIG_UNREADY_DAMAGES: list[dict[str, Any]] = [
    {"ready_before": False},
    {"ready_during": True},
    {"ready_during": None},
    {"lasted_s": None},
    {"lasted_s": 1.0},  # a well one takes longer to get ready
]
ROLLING_GOOD = [
    {"service": "s", "ready_in_s": 0.8, "seen": RESTART_GOOD},
    {"service": "b", "ready_in_s": 1.0, "seen": {**RESTART_GOOD, "pid_before": 12, "pid_after": 13}},
]
ROLLING_DAMAGES: list[dict[str, Any]] = [
    {"ready_in_s": None},
    *({"seen": {**RESTART_GOOD, **damage}} for damage in RESTART_DAMAGES),
]

# fault, its keys, what was seen when all is well, and the changes each of which must cost the proof
Case = tuple[type[Fault[Any]], dict[str, Any], dict[str, Any], list[dict[str, Any]]]
CASES: list[Case] = [
    (
        Partition,
        {"between": ["a", "b"]},
        LINK_GOOD,
        [
            {"during": {"a->b": ANSWERED, "a->s": SILENT, "x->b": SILENT}},
            {"during": {"a->b": SILENT, "a->s": ANSWERED, "x->b": SILENT}},
            {"through_proxy": {"a->b": IDLE, "a->s": IDLE, "x->b": USED}},  # x's use says nothing of a
            {"through_proxy": {"a->b": USED, "a->s": USED, "x->b": AROUND}},
            {"before_ms": {"a->b": 0.4, "a->s": None, "x->b": 0.3}},  # dead anyhow
            {"neighbours": {"a->c": False, "a->d": False}},
            {"at_end": {"a->b": True, "a->s": True, "x->b": False}},
            {"at_end": {}},
        ],
    ),
    (
        Crash,
        {"service": "s"},
        CRASH_GOOD,
        [
            {"gone": False},
            {"stayed_down": False},
            {"status_before": "dead"},
            {"pid_after": 10},
            {"incarnation_after": 1},
            {"status_after": "dead"},
            {"status_at_end": "running", "incarnation_at_end": 2},  # somebody else started it early
            {"incarnation_at_end": 2},  # started early, and dead again
        ],
    ),
    (
        Pause,
        {"service": "s"},
        PAUSE_GOOD,
        [
            {"status_before": "paused"},
            {"answered_before": False},
            {"stopped": False},
            {"silent": False},
            {"status_at_end": "running"},
            {"incarnation_at_end": 2},
            {"stopped_at_end": False},
            {"pid_after": 12},
        ],
    ),
    (  # nobody can be asked: that its processes stand still is all there is
        Pause,
        {"service": "s"},
        PAUSE_UNHEARD,
        [
            {"status_before": "paused"},
            {"can_be_asked": True},
            {"stopped": False},
            {"status_at_end": "running"},
            {"incarnation_at_end": 2},
            {"stopped_at_end": False},
            {"pid_after": 12},
        ],
    ),
    (
        Restart,
        {"service": "s", "grace": 5.0},
        RESTART_GOOD,
        RESTART_DAMAGES,
    ),
    (
        Unplug,
        {"services": ["s", "t"]},
        {
            "services": {"s": UNPLUGGED_GOOD, "t": UNPLUGGED_UNHEARD},
            "neighbours": {"a->c": True, "a->d": False},
        },
        [
            {"services": {}},
            {"neighbours": {"a->c": False}},
            *(
                {"services": {"s": {**UNPLUGGED_GOOD, **one}, "t": UNPLUGGED_UNHEARD}}
                for one in UNPLUGGED_DAMAGES
            ),
            {"services": {"s": UNPLUGGED_GOOD, "t": {**UNPLUGGED_UNHEARD, "interfaces_at_end": 1}}},
            {"services": {"s": UNPLUGGED_GOOD, "t": {**UNPLUGGED_UNHEARD, "can_be_asked": True}}},
        ],
    ),
    (
        Cpu,
        {"service": "s", "limit": 0.1},
        CPU_GOOD,
        [
            *LIMIT_DAMAGES,
            {"throttled": 0},
            {"throttled": 9},
            {"used_s": 1.2},
        ],
    ),
    (
        Memory,
        {"service": "s", "limit": "64MiB"},
        MEMORY_GOOD,
        [*LIMIT_DAMAGES, {"reached": 0}],
    ),
    (  # its children were killed for it
        Memory,
        {"service": "s", "limit": "64MiB"},
        {**MEMORY_GOOD, "reached": 0, "killed_in_it": 2},
        [*LIMIT_DAMAGES, {"killed_in_it": 0}],
    ),
    (  # it wanted more, and the kernel killed it
        Memory,
        {"service": "s", "limit": "64MiB"},
        KILLED_GOOD,
        [
            {"killed": False},
            {"limit_during": 1e9},
            {"status_before": "dead"},
            {"status_after": "dead"},
            {"incarnation_after": 1},
            {"pid_after": 10},
            {"limit_after": 64 * 2**20},
        ],
    ),
    (
        Surge,
        {"factor": 2.0},
        {"rate_before": 50.0, "rate_during": 101.0},
        [{"rate_during": 60.0}, {"rate_during": None}, {"rate_before": None}, {"rate_during": 300.0}],
    ),
    (Maintenance, {}, mode_good("maintenance"), MODE_DAMAGES),
    (Lockdown, {}, mode_good("lockdown"), MODE_DAMAGES),
    (
        BadConfig,
        {"service": "s", "environment": {"DATABASE_URL": "wrong"}, "grace": 5.0},
        CONFIG_GOOD,
        [*CONFIG_DAMAGES, *CONFIG_UNREADY_DAMAGES],
    ),
    (  # what does not show in its readiness
        BadConfig,
        {"service": "s", "environment": {"LOG_LEVEL": "wrong"}, "grace": 5.0, "seen": "running"},
        {**CONFIG_GOOD, "ready_before": False, "ready_during": True},
        CONFIG_DAMAGES,
    ),
    (
        RollingRestart,
        {"services": ["s", "leader"], "grace": 5.0},
        {"turns": ROLLING_GOOD},
        [
            {"turns": []},
            {"turns": ROLLING_GOOD[:1]},  # it halted there
            *({"turns": [ROLLING_GOOD[0], {**ROLLING_GOOD[1], **one}]} for one in ROLLING_DAMAGES),
            *({"turns": [{**ROLLING_GOOD[0], **one}, ROLLING_GOOD[1]]} for one in ROLLING_DAMAGES),
        ],
    ),
    (
        FAULTS["switchover"],
        {},
        {
            "leader": "db-1",
            "candidate": "db-2",
            "holder_after": "db-2",
            "agreed": True,
            "timeline_before": 1,
            "timeline_after": 2,
        },
        [
            {"agreed": False},
            {"holder_after": "db-1"},
            {"holder_after": None},
            {"timeline_after": 1},
            {"timeline_before": None},
        ],
    ),
]
