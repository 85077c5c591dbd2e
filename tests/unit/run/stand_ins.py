"""What a conductor and a sampler need around them, without a single process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.experiment.target import TargetSpec
from harness.fault.base import Context
from harness.load.figures import LiveSecond
from harness.plan import LoadPlan, Plan, PlannedFault

SPEC = TargetSpec(
    name="t", folder=".", services={}, links={}, functions={"payments": ("topup",)}, entry="a->b"
)


@dataclass
class Driver:
    """Load that runs ``for_s`` and ends with ``exit_code``."""

    for_s: float = 60.0
    exit_code_then: int = 0
    seconds: tuple[LiveSecond, ...] = ()
    operations_file: Path = Path("nothing-recorded")
    started_s: float = field(default_factory=time.monotonic)

    def alive(self) -> bool:
        return time.monotonic() < self.started_s + self.for_s

    @property
    def exit_code(self) -> int | None:
        return None if self.alive() else self.exit_code_then

    def live(self) -> list[LiveSecond]:
        return list(self.seconds)


@dataclass
class Stagehand:
    """Remembers what it was told."""

    told: list[Any] = field(default_factory=list)

    def event(self, text: str) -> None:
        self.told.append(text)

    def fault(self, id: str, state: str) -> None:
        self.told.append((id, state))

    def load(self, second: int, rate: float | None, ok_percent: float | None, p99_ms: float | None) -> None:
        self.told.append((second, rate, ok_percent, p99_ms))

    def phase(self, name: str, detail: str = "") -> None:
        self.told.append(name)


def context(stopping: Callable[[], bool] = lambda: False, **parts: Any) -> Context:
    made = {"spec": SPEC, "runtime": None, "links": None, "say": lambda text: None, **parts}
    return Context(arrivals_per_s=lambda a_ns, b_ns: None, stopping=stopping, **made)


def plan(*faults: PlannedFault, max_duration_s: float, steady_s: float = 0.1) -> Plan:
    load = LoadPlan(
        seed=1, arrivals="poisson", segments=(), mix={}, subscribers=1, max_duration_s=max_duration_s
    )
    return Plan(
        name="p",
        seed=1,
        steady_s=steady_s,
        faults=faults,
        jobs=(),
        load=load,
        recover_within_s=30.0,
        recovered_s=1.0,
        settle_within_s=1.0,
    )
