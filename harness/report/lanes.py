"""The timeline of what was done, as lanes of bars: phases, faults, jobs, deaths.

Positions are percentages of the time axis, so that the page can lay them out at any width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.report.chart import Label, time_ticks
from harness.report.reading import Run
from harness.report.story import FaultLine, fault_lines, job_lines, phases, recovered_at_s

WORDS_FIT = 4  # percent of the axis; a narrower bar has no room for a word


@dataclass(frozen=True)
class Bar:
    """A stretch of a lane. ``kind`` is its CSS class; ``text`` stands inside, ``hint`` tells it whole."""

    left: float
    width: float
    kind: str
    text: str
    hint: str


@dataclass(frozen=True)
class Lane:
    """One row: ``tag`` (F1, empty for none), ``label``, and its bars."""

    tag: str
    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Lanes:
    """The whole timeline; ``end_s`` is the length of its axis in seconds."""

    end_s: float
    rows: tuple[Lane, ...]
    ticks: tuple[Label, ...]
    recovery: Label | None


def lanes(run: Run) -> Lanes | None:
    """None when nothing is known of the times."""
    end_s = max(_ends(run), default=0.0)
    if end_s <= 0:
        return None
    rows = (
        *_phase_lane(run, end_s),
        *_fault_lanes(run, end_s),
        *_job_lanes(run, end_s),
        *_deaths(run, end_s),
    )
    recovered = recovered_at_s(run)
    return Lanes(
        end_s=end_s,
        rows=rows,
        ticks=tuple(Label(100 * t / end_s, f"{t:g}") for t in time_ticks(end_s)),
        recovery=None
        if recovered is None
        else Label(_at(recovered, end_s), f"recovered at {recovered:.1f} s"),
    )


def _ends(run: Run) -> Iterable[float]:
    yield from (phase.end_s for phase in phases(run))
    spans = [(line.start_s, line.end_s) for line in fault_lines(run)]
    spans += [(job.start_s, job.end_s) for job in job_lines(run)]
    yield from (at for span in spans for at in span if at is not None)
    if run.timeline:
        zero = run.timeline.load_started_ns
        yield from ((death.at_ns - zero) / 1e9 for death in run.timeline.deaths)
        if run.timeline.settled_ns:
            yield (run.timeline.settled_ns - zero) / 1e9
    if run.series:
        yield float(run.series.end_s)


def _phase_lane(run: Run, end_s: float) -> Iterable[Lane]:
    parts = [(phase.name, phase.start_s, phase.end_s) for phase in phases(run)]
    times = run.timeline
    if times and times.load_ended_ns and times.settled_ns:
        zero = times.load_started_ns
        parts.append(("settling", (times.load_ended_ns - zero) / 1e9, (times.settled_ns - zero) / 1e9))
    bars = tuple(_bar(start, end, end_s, f"phase phase-{name}", name) for name, start, end in parts)
    if bars:
        yield Lane("", "phases", bars)


def _fault_lanes(run: Run, end_s: float) -> Iterable[Lane]:
    grouped: dict[str, list[FaultLine]] = {}
    for line in fault_lines(run):
        grouped.setdefault(line.tag, []).append(line)
    for tag, group in grouped.items():
        yield Lane(
            tag, group[0].name, tuple(_fault_bar(line, end_s) for line in group if line.start_s is not None)
        )


def _fault_bar(line: FaultLine, end_s: float) -> Bar:
    assert line.start_s is not None
    state = "not healed" if line.heal_error else "proved" if line.proved else "not proved"
    end = line.end_s if line.end_s is not None else end_s
    sound = line.proved and not line.heal_error
    hint = f"{line.name}, {state}: {line.told}"
    bar = _bar(line.start_s, end, end_s, "fault-bar" if sound else "fault-bar unproved", state, hint)
    return bar if bar.width >= WORDS_FIT else replace(bar, text="" if sound else "?")


def _job_lanes(run: Run, end_s: float) -> Iterable[Lane]:
    for job in job_lines(run):
        state = "done" if job.done else "not done"
        end = job.end_s if job.end_s is not None else end_s
        kind = "job-bar" if job.done else "job-bar unproved"
        yield Lane("", f"job {job.job}", (_bar(job.start_s, end, end_s, kind, state),))


def _deaths(run: Run, end_s: float) -> Iterable[Lane]:
    if run.timeline is None or not run.timeline.deaths:
        return
    zero = run.timeline.load_started_ns
    bars = []
    for death in run.timeline.deaths:
        at = (death.at_ns - zero) / 1e9
        bars.append(_bar(at, at, end_s, "death-bar", f"✗ {death.service}"))
    yield Lane("", "died uninvited", tuple(bars))


def _at(seconds: float, end_s: float) -> float:
    return round(100 * min(max(seconds / end_s, 0), 1), 3)


def _bar(start_s: float, stop_s: float, end_s: float, kind: str, text: str, hint: str = "") -> Bar:
    left = _at(start_s, end_s)
    hint = f"{hint or text}, {start_s:.1f} s to {stop_s:.1f} s"
    return Bar(left, round(_at(stop_s, end_s) - left, 3), kind, text, hint)
