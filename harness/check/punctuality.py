"""Was the load there when it should have been? The generator's own lateness, in any span of the run.

Over a whole run a stall of some seconds disappears in its p99; but where the stall met a fault, nothing
was asked of the broken system, and whatever passes there passed unseen. An operation is late when it
began more than 100 ms after its time, what it waited for a user of the full pool left out: that is the
target's doing. More than 1 % late (p99 above 100 ms), or that many never sent, and the span says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import duckdb

from harness.check.windows import Span
from harness.plan import LoadPlan

LAG_P99_MS = 100.0
LATE_SHARE = 0.01
ABSENT_SHARE = 0.1  # a hiccup is no absence: below this a fault was met by load
CHANCE = 4.0  # standard deviations: Poisson arrivals are as many as planned only on average
BEGAN_NS = "coalesce(invoked_ns, completed_ns)"  # or ended, without ever having begun
LATE = f"({BEGAN_NS} - intended_ns - coalesce(queued_ns, 0) > {LAG_P99_MS * 1e6:.0f})"


@dataclass(frozen=True)
class Punctuality:
    """Asks the operations. ``load`` None: what was planned is not known, only what is on record."""

    connection: duckdb.DuckDBPyConnection
    load: LoadPlan | None
    started_ns: int

    def complaint(self, span: Span, share: float = LATE_SHARE) -> str | None:
        """Why nothing can be said of ``span``: more than ``share`` of its load was late or missing.

        A single operation is never the reason. Raises duckdb.Error.
        """
        row = self.connection.execute(
            f"""
            select count(*), count(*) filter ({LATE}) from operations
            where intended_ns >= ? and intended_ns < ?
            """,
            [span.start_ns, span.end_ns],
        ).fetchone()
        due, late = row or (0, 0)
        if late > max(1, math.floor(share * due)):
            return f"{late} of {due} operations began more than {LAG_P99_MS:.0f} ms after their time"
        planned = self._planned(span)
        if planned - due > share * planned + CHANCE * math.sqrt(planned):
            return f"about {planned:.0f} operations were planned, {due} were sent"
        return None

    def _planned(self, span: Span) -> float:
        """How many arrivals the plan has in ``span``, on average."""
        if self.load is None:
            return 0.0
        start_s, end_s = ((at_ns - self.started_ns) / 1e9 for at_ns in (span.start_ns, span.end_ns))
        return planned(self.load, start_s, end_s)


def planned(load: LoadPlan, start_s: float, end_s: float) -> float:
    """Arrivals between two instants of the plan: its rates, summed over the time."""
    ends = [*(segment.at_s for segment in load.segments[1:]), load.max_duration_s]
    return sum(
        segment.rate_per_s * max(0.0, min(end, end_s) - max(segment.at_s, start_s))
        for segment, end in zip(load.segments, ends, strict=False)
    )
