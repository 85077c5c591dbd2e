"""Less of the machine: a limit on what a service may use, set and counted by the kernel.

A limit that a service does not run into breaks nothing: proof is that the kernel held it back.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, WithJsonSchema, field_validator

from harness.errors import EnvironmentBroken
from harness.evidence.healing import Healing
from harness.evidence.model import Proof
from harness.experiment.units import Bytes, show_size
from harness.experiment.vocabulary import Ability, Lives
from harness.fault.abilities import limiting
from harness.fault.one_service import OneService, OnService
from harness.target.runtime import Limiting, Limits, Usage

LOOK_S = 0.2  # between two looks at what it uses
END_S = 0.5  # before the healing, for the last look
READ_BACK = 0.01  # the kernel counts in whole pages, and in slices of a period
CPU_SLACK = 0.1  # of the processor time allowed: periods and looks do not begin at once
CPU_SLACK_S = 0.01  # beside it, at any limit: the kernel looks only at its ticks whether to stop it
PERIOD_S = 0.1  # of the scheduler, for which a processor limit is a share
HELD_BACK = 0.1  # least share of the periods: who is held back now and then is not starved
LEAST_MEMORY = 6 * 2**20  # less than that no engine allows
CORES = (0.01, 64.0)

T = TypeVar("T")


def _cores(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number of cores; write 0.5 or 2, without a unit")
    if not CORES[0] <= value <= CORES[1]:
        raise ValueError(f"{value:g} cores is out of range: from {CORES[0]:g} to {CORES[1]:g}")
    return float(value)


Cores = Annotated[
    float,
    BeforeValidator(_cores),
    WithJsonSchema({"type": "number", "minimum": CORES[0], "maximum": CORES[1], "examples": [0.1, 2]}),
]


class CpuParams(OnService):
    """``limit``: cores, 0.1 for a tenth of one."""

    limit: Cores


class MemoryParams(OnService):
    """``limit``: such as 64MiB, for all of the service's processes together."""

    limit: Bytes

    @field_validator("limit")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value < LEAST_MEMORY:
            raise ValueError(f"{show_size(value)} is out of range: at least {show_size(LEAST_MEMORY)}")
        return value


class Limit(OneService):
    """What both share: a lower limit than before, as the kernel reads it back, until it is lifted."""

    family = "resource"

    @classmethod
    def lives(cls, params: OnService) -> Lives | None:
        return "needed"  # who is down or stands still uses nothing that could be limited

    @classmethod
    def needs(cls, params: OnService) -> frozenset[Ability]:
        return frozenset({"limit"})

    @property
    def runtime(self) -> Limiting:
        return limiting(self.context.runtime)

    @abstractmethod
    def asked(self) -> float: ...

    @abstractmethod
    def of(self, limits: Limits) -> float | None:
        """The limit that is meant, of both."""

    @abstractmethod
    def changed(self, limits: Limits) -> Limits:
        """These, with the limit that is asked for."""

    @abstractmethod
    def show(self, amount: float | None) -> str: ...

    def healings(self) -> tuple[Healing, ...]:
        service = self.resolve()
        self._before = before = self.runtime.limits(service)
        self.seen["limit_before"] = had = self.of(before)
        if had is not None and had <= self.asked():
            raise EnvironmentBroken(
                f"{service} has no more than {self.show(had)} already; {self.show(self.asked())} is no limit"
            )
        args: dict[str, str | int | float] = {"service": service}
        args |= {name: value or 0 for name, value in asdict(before).items()}
        return (Healing(action="set_limits", args=args),)

    def strike(self) -> None:
        self.runtime.set_limits(self.service, self.changed(self._before))
        self._note_limit("during")

    def still(self) -> None:
        super().still()
        self._note_limit("at_end")

    def recovered(self) -> None:
        super().recovered()
        self._note_limit("after")

    def _note_limit(self, when: str) -> None:
        """Who does not run has none that could be read."""
        limits = self.ask(lambda: self.runtime.limits(self.service))
        if limits is not None:
            self.seen[f"limit_{when}"] = self.of(limits)

    def runs(self) -> bool:
        return self.context.runtime.state(self.service).status in ("running", "paused")

    def usage(self) -> Usage | None:
        """None once it has ended."""
        return self.ask(lambda: self.runtime.usage(self.service))

    def ask(self, question: Callable[[], T]) -> T | None:
        """What only a service that runs can be asked; None once it has ended."""
        try:
            return question() if self.runs() else None
        except EnvironmentBroken:
            self.context.sleep(LOOK_S)  # the kernel's counters are gone a moment before its end is known
            if self.runs():
                raise
            return None

    def proof(self) -> Proof:
        why_not = self._not_set() or self.not_felt() or self._not_lifted()
        text = why_not or f"{self.service} {self.felt()}"
        return Proof(proved=why_not is None, text=text, observed=dict(self.seen))

    @abstractmethod
    def not_felt(self) -> str | None:
        """Why it was not held back by its limit, all the time to the end."""

    @abstractmethod
    def felt(self) -> str: ...

    def _not_set(self) -> str | None:
        if not self.was_running():
            return f"{self.service} was {self.seen.get('status_before')} before"
        if not self.is_set("during"):
            has, asked = self.show(self.seen.get("limit_during")), self.show(self.asked())
            return f"the kernel has a limit of {has} for {self.service}, not {asked}"
        return None

    def is_set(self, when: str) -> bool:
        limit = self.seen.get(f"limit_{when}")
        return limit is not None and math.isclose(limit, self.asked(), rel_tol=READ_BACK)

    def held_to_the_end(self) -> bool:
        return self.lasted("running") and self.is_set("at_end")

    def ended_early(self) -> str:
        return f"{self.at_end()}, with a limit of {self.show(self.seen.get('limit_at_end'))}"

    def back(self) -> bool:
        """As it should be after the healing."""
        return self.same_life()

    def _not_lifted(self) -> str | None:
        if not self.back():
            return f"{self.service} was {self.seen.get('status_after')} after the healing, or another process"
        had, has = (self.seen.get(f"limit_{when}") for when in ("before", "after"))
        if "limit_after" not in self.seen or had != has:
            return f"{self.service} had {self.show(had)} before, and {self.show(has)} after the healing"
        return None


class Cpu(Limit):
    """A service gets so many cores and no more: slow, not broken."""

    name = "cpu"
    Params = CpuParams
    params: CpuParams

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return (
            f"the kernel has the limit, holds {params.service} back again and again, and gives it no more "
            "processor time"
        )

    @classmethod
    def shortest_s(cls, params: OnService) -> float:
        return 2.0  # twenty periods: enough to see whether it is held back

    def asked(self) -> float:
        return self.params.limit

    def of(self, limits: Limits) -> float | None:
        return limits.cpus

    def changed(self, limits: Limits) -> Limits:
        return replace(limits, cpus=self.params.limit)

    def show(self, amount: float | None) -> str:
        return f"{amount:g} cores" if amount is not None else "all cores"

    def observe(self) -> None:
        self._first, self._first_s = self.usage(), time.monotonic()

    def still(self) -> None:
        last, elapsed_s = self.usage(), time.monotonic() - self._first_s
        super().still()
        if self._first is not None and last is not None:
            self.seen.update(
                elapsed_s=round(elapsed_s, 3),
                used_s=round((last.cpu_ns - self._first.cpu_ns) / 1e9, 3),
                periods=last.periods - self._first.periods,
                throttled=last.throttled - self._first.throttled,
            )

    def not_felt(self) -> str | None:
        if not self.held_to_the_end():
            return self.ended_early()
        if "used_s" not in self.seen:
            return f"what {self.service} used is not known"
        used_s, elapsed_s = self.seen["used_s"], self.seen["elapsed_s"]
        used = f"{used_s:.2f} s of processor time in {elapsed_s:.1f} s"
        if self.seen["throttled"] <= 0:
            return f"{self.service} was never held back: it did not need more than it got, {used}"
        if self.seen["throttled"] < HELD_BACK * elapsed_s / PERIOD_S:
            return (
                f"{self.service} was held back in {self.seen['throttled']} periods only, of "
                f"{elapsed_s / PERIOD_S:.0f} in that time: it hardly needed more than it got, {used}"
            )
        if used_s > self.params.limit * elapsed_s * (1 + CPU_SLACK) + CPU_SLACK_S:
            return f"{self.service} used {used} all the same"
        return None

    def felt(self) -> str:
        return (
            f"was held back in {self.seen['throttled']} of {self.seen['periods']} periods, and used "
            f"{self.seen['used_s']:.2f} s of processor time in {self.seen['elapsed_s']:.1f} s"
        )


class Memory(Limit):
    """A service gets so much memory and no more; where it needs more, the kernel kills of its processes.

    Its own end by that is invited. Healing lifts the limit, and starts the service again where it ended.
    A limit below what it uses already is refused by some kernels (control groups v1: the fault breaks);
    others (v2) take it, and kill at once what they cannot reclaim from.
    """

    name = "memory"
    Params = MemoryParams
    params: MemoryParams

    @classmethod
    def proof_needed(cls, params: OnService) -> str:
        return (
            f"the kernel has the limit, and {params.service} reaches it at least once, or it or processes of "
            "it are killed for that"
        )

    def asked(self) -> float:
        return self.params.limit

    def of(self, limits: Limits) -> float | None:
        return limits.memory_bytes

    def changed(self, limits: Limits) -> Limits:
        return replace(limits, memory_bytes=self.params.limit)

    def show(self, amount: float | None) -> str:
        return show_size(int(amount)) if amount is not None else "all memory"

    def healings(self) -> tuple[Healing, ...]:
        """Carried out last first: it must not be started under the limit that killed it."""
        lifted = super().healings()
        return (Healing(action="start_service", args={"service": self.service}), *lifted)

    def strike(self) -> None:
        usage = self.usage()
        if usage is None:
            raise EnvironmentBroken(f"{self.service} does not run, so it cannot be limited")
        self._before_it = usage
        self.seen.update(reached=0, killed_in_it=0, most_used=usage.memory_bytes)
        try:
            super().strike()
        except EnvironmentBroken as error:
            raise EnvironmentBroken(
                f"{self.service} could not be limited to {self.show(self.params.limit)}, it uses "
                f"{self.show(usage.memory_bytes)}: {' '.join(error.message.split())}"
            ) from error

    def observe(self) -> None:
        """To the end: when it is killed, its counters are gone."""
        while self._look() and self.seconds_left() > END_S and not self.context.stopping():
            self.context.sleep(LOOK_S)

    def _look(self) -> bool:
        """False once it has ended."""
        usage = self.usage()
        if usage is not None:
            self.seen["reached"] = usage.memory_refused - self._before_it.memory_refused
            self.seen["killed_in_it"] = usage.oom_kills - self._before_it.oom_kills
            self.seen["most_used"] = max(self.seen["most_used"], usage.memory_bytes)
        return usage is not None

    def still(self) -> None:
        self._look()
        super().still()
        self.seen["killed"] = self.lasted("dead") and self.runtime.out_of_memory(self.service)

    def is_set(self, when: str) -> bool:
        """Who is killed at once has no limit left to be read."""
        return super().is_set(when) or (bool(self.seen.get("killed")) and f"limit_{when}" not in self.seen)

    def back(self) -> bool:
        return self.came_back() if self.seen.get("killed") else self.same_life()

    def not_felt(self) -> str | None:
        if self.seen.get("killed"):
            return None
        if not self.held_to_the_end():
            return self.ended_early()
        if self.seen.get("reached", 0) <= 0 and self.seen.get("killed_in_it", 0) <= 0:
            used, limit = self.show(self.seen.get("most_used")), self.show(self.params.limit)
            return f"{self.service} never reached its limit: it used at most {used} of {limit}"
        return None

    def felt(self) -> str:
        """No more than was seen: who reaches a limit may be given what the kernel can reclaim elsewhere."""
        limit = self.show(self.params.limit)
        if self.seen.get("killed"):
            return f"was killed when it needed more than {limit}; another process came after the healing"
        reached, killed = self.seen["reached"], self.seen["killed_in_it"]
        told = [f"reached its limit of {limit} {_times(reached)}"] if reached > 0 else []
        if killed > 0:
            told.append(f"lost {killed} of its processes, killed for the limit of {limit}, and lived on")
        return " and ".join(told)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
