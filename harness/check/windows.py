"""The phases of a run as spans of time, from the timeline and the measured recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.check.recovery import HOLD_NS, Recovery
from harness.evidence.model import Timeline


@dataclass(frozen=True)
class Span:
    """From ``start_ns`` up to, not including, ``end_ns`` (epoch)."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


def windows_of(timeline: Timeline, recovery: Recovery) -> Mapping[str, Span]:
    """Window by name. A phase that did not happen is not there: no ``recovered`` without recovery.

    Where nothing was broken, all load after steady is ``recovered``.
    """
    started, steady_end = timeline.load_started_ns, timeline.steady_ended_ns
    ended = timeline.load_ended_ns or timeline.collected_ns or steady_end
    spans = {"steady": (started, min(steady_end, ended)), "run": (started, ended)}
    injected, healed = timeline.first_injection_ns, timeline.last_healing_ns
    if injected is None:
        spans["recovered"] = (steady_end, ended)
    else:
        spans["fault"] = (injected, ended if healed is None else healed)
        if healed is not None:
            recovered = recovery.overall_ns
            spans["recovery"] = (healed, ended if recovered is None else recovered)
            if recovered is not None:
                spans["recovered"] = (recovered, ended)
    return {name: Span(start, max(start, end)) for name, (start, end) in spans.items()}


def watched(recovery: Recovery, ended_ns: int, function: str | None = None) -> Span | None:
    """The load from the healing on that decides on a function's recovery (None: on every one's).

    It ends with the hold, or with the load where there was none. None when nothing was healed.
    """
    if recovery.healed_ns is None:
        return None
    those = list(recovery.by_function.values()) if function is None else [recovery.by_function.get(function)]
    found = [at_ns for at_ns in those if at_ns is not None]
    if not found or len(found) < len(those):
        return Span(recovery.healed_ns, ended_ns)
    return Span(recovery.healed_ns, min(max(found) + HOLD_NS, ended_ns))
