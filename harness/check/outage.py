"""How long was a function down? Seconds in which less than 95 % of what steady served was served.

Counted from the first injection (where nothing was injected: from the end of steady) to the end of load, in
whole seconds. A second counts when something due in it was missed, and over it and its two neighbours more
was missed than recovery would forgive (``Baseline.may_miss``): one straggler is no outage, and the
neighbours lend it enough operations to tell, without making it longer. A second in which nothing was due
is as the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from harness.check.recovery import Baseline, baselines
from harness.evidence.model import Timeline

SECOND_NS = 10**9
Second = tuple[int, int]  # operations due, and of these not ok


def outages(connection: duckdb.DuckDBPyConnection, timeline: Timeline) -> dict[str, float]:
    """Seconds by function; without those that had too little traffic in steady. Raises duckdb.Error."""
    start_ns = timeline.first_injection_ns or timeline.steady_ended_ns
    if timeline.load_ended_ns is None:
        return {}
    count = max(0, (timeline.load_ended_ns - start_ns) // SECOND_NS)
    bases = baselines(connection, timeline)
    seconds: dict[str, list[Second]] = {name: [(0, 0)] * count for name in bases}
    rows = connection.execute(
        """
        select function, (counted_ns - $start) // $second, count(*), count(*) filter (outcome <> 'ok')
        from operations join functions using (kind)
        where counted_ns >= $start and counted_ns < $end group by all
        """,
        {"start": start_ns, "end": start_ns + count * SECOND_NS, "second": SECOND_NS},
    ).fetchall()
    for name, second, due, missed in rows:
        if name in seconds:
            seconds[name][second] = (due, missed)
    return {name: float(seconds_below(seconds[name], base)) for name, base in bases.items()}


def seconds_below(seconds: Sequence[Second], baseline: Baseline) -> int:
    """How many of these are below what steady served."""
    below, total = False, 0
    for number, (due, missed) in enumerate(seconds):
        if due:
            around = seconds[max(0, number - 1) : number + 2]
            forgiven = baseline.may_miss(sum(due for due, _ in around))
            below = missed > 0 and sum(missed for _, missed in around) > forgiven
        total += below
    return total
