"""What was done to the system, put together from whatever of the records there is.

Seconds count from the start of load. Faults come from their own records where these exist (they carry
the observed figures), else from the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.evidence.model import FaultRecord
from harness.report.reading import Run

SHOWN = 3  # of the parts that a fault touches


@dataclass(frozen=True)
class FaultLine:
    """A fault as reports tell it. ``tag`` (F1, F2 ...) is shared by repetitions of one fault.

    ``start_s`` None: it was never injected. ``end_s`` None: it was not healed.
    """

    tag: str
    fault: str
    on: tuple[str, ...]
    start_s: float | None
    end_s: float | None
    proved: bool
    proof: str
    observed: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    heal_error: str | None = None  # why it could not be undone

    @property
    def told(self) -> str:
        """The proof; and first of all, where it is so, that the fault was left in place."""
        return f"could not be healed: {self.heal_error}; {self.proof}" if self.heal_error else self.proof

    @property
    def name(self) -> str:
        """``crash on db-primary``; of many parts the first ones."""
        shown = ", ".join(self.on[:SHOWN])
        more = f" and {len(self.on) - SHOWN} more" if len(self.on) > SHOWN else ""
        return f"{self.fault} on {shown}{more}" if self.on else self.fault


@dataclass(frozen=True)
class JobLine:
    """A batch job as reports tell it. ``end_s`` None: it never ended."""

    job: str
    start_s: float
    end_s: float | None
    attempts: int
    done: bool
    answer: str


@dataclass(frozen=True)
class Phase:
    """A window of the run."""

    name: str
    start_s: float
    end_s: float


def fault_lines(run: Run) -> tuple[FaultLine, ...]:
    """Every fault of the run, in the order of injection."""
    tags: dict[tuple[str, tuple[str, ...]], str] = {}

    def tag(fault: str, on: tuple[str, ...]) -> str:
        return tags.setdefault((fault, on), f"F{len(tags) + 1}")

    if run.faults and run.zero_ns is not None:
        zero = run.zero_ns
        ordered = sorted(run.faults, key=lambda item: item.injected_ns or 1 << 63)
        return tuple(_from_record(item, tag(item.fault, item.touches), zero) for item in ordered)
    verdict_faults = run.verdict.faults if run.verdict else ()
    return tuple(
        FaultLine(
            tag=tag(item.fault, item.on),
            fault=item.fault,
            on=item.on,
            start_s=item.at,
            end_s=None if item.at is None or item.for_s is None else item.at + item.for_s,
            proved=item.proved,
            proof=item.proof,
            heal_error=item.heal_error,
        )
        for item in verdict_faults
    )


def fault_groups(run: Run) -> list[tuple[FaultLine, int, int]]:
    """Repetitions together: the worst of them, else the first; how many; how many of them proved."""
    groups: dict[str, list[FaultLine]] = {}
    for line in fault_lines(run):
        groups.setdefault(line.tag, []).append(line)
    return [
        (
            min(group, key=lambda line: (line.heal_error is None, line.proved)),
            len(group),
            sum(line.proved for line in group),
        )
        for group in groups.values()
    ]


def _from_record(record: FaultRecord, tag: str, zero_ns: int) -> FaultLine:
    return FaultLine(
        tag=tag,
        fault=record.fault,
        on=record.touches,
        start_s=_seconds(record.injected_ns, zero_ns),
        end_s=_seconds(record.healed_ns, zero_ns),
        proved=record.proof.proved,
        proof=record.proof.text,
        observed=record.proof.observed,
        params=record.params,
        error=record.error,
        heal_error=record.heal_error,
    )


def job_lines(run: Run) -> tuple[JobLine, ...]:
    """Every batch job of the run."""
    if run.zero_ns is None or run.jobs is None:
        return ()
    zero = run.zero_ns
    return tuple(
        JobLine(
            job=job.job,
            start_s=(job.started_ns - zero) / 1e9,
            end_s=_seconds(job.ended_ns, zero),
            attempts=job.attempts,
            done=job.done,
            answer=job.answer,
        )
        for job in sorted(run.jobs, key=lambda job: job.started_ns)
    )


def phases(run: Run) -> tuple[Phase, ...]:
    """The windows in order of time, without the one that spans the whole run."""
    if run.verdict and run.verdict.windows:
        windows = run.verdict.windows.items()
        named = [Phase(name, window.start, window.end) for name, window in windows if name != "run"]
        return tuple(sorted(named, key=lambda phase: phase.start_s))
    if run.timeline is None:
        return ()
    times, zero = run.timeline, run.timeline.load_started_ns
    edges = [
        ("steady", zero, times.steady_ended_ns),
        ("fault", times.first_injection_ns, times.last_healing_ns),
        ("after healing", times.last_healing_ns, times.load_ended_ns),
    ]
    return tuple(
        Phase(name, (start - zero) / 1e9, (end - zero) / 1e9)
        for name, start, end in edges
        if start is not None and end is not None
    )


def recovered_at_s(run: Run) -> float | None:
    """The measured recovery point, seconds from the start of load; None: there was none."""
    if run.verdict is None or run.verdict.recovery_s is None:
        return None
    if "recovered" in run.verdict.windows:
        return run.verdict.windows["recovered"].start
    if run.timeline and run.timeline.last_healing_ns:
        healed_s = (run.timeline.last_healing_ns - run.timeline.load_started_ns) / 1e9
        return healed_s + run.verdict.recovery_s
    return None


def _seconds(at_ns: int | None, zero_ns: int) -> float | None:
    return None if at_ns is None else (at_ns - zero_ns) / 1e9
